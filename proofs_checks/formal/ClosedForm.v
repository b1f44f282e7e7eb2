(* L6: two groups without a box: the closed form is the projection. *)
Require Import Reals Lra Lia Psatz Arith.
From Fairopt Require Import Sums.
Open Scope R_scope.

Section L6.
Variables (n : nat) (g : nat -> nat) (z w : nat -> R) (n0 n1 eps : R).    (* group 0, group 1; samples of other groups stay *)
Definition in_group (k : nat) (f : nat -> R) : R := sum n (fun i => if Nat.eqb (g i) k then f i else 0).
Hypothesis weights : forall i, (i < n)%nat -> 0 < w i.
Hypothesis size_0 : in_group 0 (fun _ => 1) = n0.
Hypothesis size_1 : in_group 1 (fun _ => 1) = n1.
Hypothesis both : 0 < n0 /\ 0 < n1.
Hypothesis tolerance : 0 <= eps.

Definition D (f : nat -> R) : R := in_group 0 f / n0 - in_group 1 f / n1.
Definition N0 : R := n0 * n0 / in_group 0 (fun i => / w i).
Definition N1 : R := n1 * n1 / in_group 1 (fun i => / w i).
Definition c : R := Rmax 0 (Rabs (D z) - eps) / (/ N0 + / N1).
Definition sign : R := if Rlt_dec (D z) 0 then -1 else 1.
(* the closed form *)
Definition y (i : nat) : R :=
  if Nat.eqb (g i) 0 then z i - sign * c / (n0 * w i)
  else if Nat.eqb (g i) 1 then z i + sign * c / (n1 * w i) else z i.
Definition cost (f : nat -> R) : R := sum n (fun i => w i * ((f i - z i) * (f i - z i))).

Definition a (i : nat) : R := if Nat.eqb (g i) 0 then / n0 else if Nat.eqb (g i) 1 then - / n1 else 0.

Lemma D_row f : D f = sum n (fun i => a i * f i).
Proof.
  destruct both as [H0 H1]. unfold D, in_group, Rdiv.
  rewrite !(Rmult_comm (sum n _)), <- !sum_scal, <- sum_minus. apply sum_ext. intros i _. unfold a.
  destruct (Nat.eqb_spec (g i) 0) as [E|E].
  - rewrite E. simpl. ring.
  - destruct (Nat.eqb (g i) 1); ring.
Qed.

Lemma y_row i : (i < n)%nat -> y i = z i - sign * c * (a i * / w i).
Proof.
  intros H. pose proof (weights i H). destruct both. unfold y, a.
  destruct (Nat.eqb (g i) 0); [field; lra|]. destruct (Nat.eqb (g i) 1); [field; lra|ring].
Qed.

Lemma inverse_weights k : 0 < in_group k (fun _ => 1) -> 0 < in_group k (fun i => / w i).
Proof.
  unfold in_group. revert weights. induction n as [|m IH]; intros Hw H; simpl in *; [lra|].
  assert (0 <= sum m (fun i => if Nat.eqb (g i) k then / w i else 0)).
  { apply sum_ge0. intros i Hi. destruct (Nat.eqb (g i) k); [|lra]. apply Rlt_le, Rinv_0_lt_compat, Hw. lia. }
  pose proof (Rinv_0_lt_compat _ (Hw m ltac:(lia))).
  destruct (Nat.eqb (g m) k); [lra|]. rewrite Rplus_0_r in *. apply IH; [|exact H]. intros i Hi. apply Hw. lia.
Qed.

Lemma stiffness : sum n (fun i => a i * (a i * / w i)) = / N0 + / N1 /\ 0 < / N0 + / N1.
Proof.
  destruct both as [H0 H1].
  pose proof (inverse_weights 0 ltac:(rewrite size_0; exact H0)) as P0.
  pose proof (inverse_weights 1 ltac:(rewrite size_1; exact H1)) as P1.
  assert (E0 : / N0 = / n0 * / n0 * in_group 0 (fun i => / w i)) by (unfold N0; field; split; lra).
  assert (E1 : / N1 = / n1 * / n1 * in_group 1 (fun i => / w i)) by (unfold N1; field; split; lra).
  pose proof (Rinv_0_lt_compat _ H0). pose proof (Rinv_0_lt_compat _ H1).
  split.
  - rewrite E0, E1. unfold in_group. rewrite <- !sum_scal, <- sum_plus. apply sum_ext. intros i _. unfold a.
    destruct (Nat.eqb_spec (g i) 0) as [E|E].
    + rewrite E. simpl. ring.
    + destruct (Nat.eqb (g i) 1); ring.
  - rewrite E0, E1. apply Rplus_lt_0_compat; apply Rmult_lt_0_compat; try assumption; apply Rmult_lt_0_compat; assumption.
Qed.

Lemma D_y : D y = D z - sign * Rmax 0 (Rabs (D z) - eps).
Proof.
  destruct stiffness as [E P]. rewrite (D_row y).
  rewrite (sum_ext n (fun i => a i * y i) (fun i => a i * z i - sign * c * (a i * (a i * / w i)))).
  - rewrite sum_minus, sum_scal, E, <- D_row. unfold c. set (q := / N0 + / N1) in *. field. lra.
  - intros i H. rewrite (y_row i H). ring.
Qed.

Theorem L6_fair : Rabs (D y) <= eps.
Proof.
  rewrite D_y. unfold sign, Rmax. destruct (Rlt_dec (D z) 0), (Rle_dec 0 (Rabs (D z) - eps));
    unfold Rabs in *; repeat destruct Rcase_abs; lra.
Qed.

(* nearest, and nothing else is: any fair v costs at least what y costs and its distance from y *)
Theorem L6 v : Rabs (D v) <= eps -> cost y + sum n (fun i => w i * ((v i - y i) * (v i - y i))) <= cost v.
Proof.
  intros Hv.
  assert (E : cost v = cost y + sum n (fun i => w i * ((v i - y i) * (v i - y i))) - 2 * (sign * c) * (D v - D y)).
  { rewrite (D_row v), (D_row y). unfold cost. rewrite <- sum_minus, <- sum_scal, <- sum_plus, <- sum_minus.
    apply sum_ext. intros i H. pose proof (weights i H).
    replace (2 * (sign * c) * (a i * v i - a i * y i)) with (2 * (w i * (sign * c * (a i * / w i))) * (v i - y i)) by (field; lra).
    replace (sign * c * (a i * / w i)) with (z i - y i) by (rewrite (y_row i H); ring). ring. }
  destruct stiffness as [_ P].
  assert (sign * c * (D v - D y) <= 0); [|lra].
  rewrite D_y. unfold c, sign, Rmax. destruct (Rle_dec 0 (Rabs (D z) - eps)) as [L|L].
  - assert (0 <= (Rabs (D z) - eps) / (/ N0 + / N1)) by (apply Rmult_le_pos; [lra|apply Rlt_le, Rinv_0_lt_compat; lra]).
    set (q := (Rabs (D z) - eps) / (/ N0 + / N1)) in *.
    destruct (Rlt_dec (D z) 0).
    + assert (0 <= D v - (D z - -1 * (Rabs (D z) - eps))) by (unfold Rabs in *; repeat destruct Rcase_abs; lra). nra.
    + assert (D v - (D z - 1 * (Rabs (D z) - eps)) <= 0) by (unfold Rabs in *; repeat destruct Rcase_abs; lra). nra.
  - unfold Rdiv. rewrite Rmult_0_l, Rmult_0_r, Rmult_0_l. lra.
Qed.
End L6.
