(* Q2: systematic rounding of the probabilities of one group, in the order they come. *)
Require Import Reals Lra Lia ZArith.
From Fairopt Require Import Sums.
Open Scope R_scope.

Definition floor (x : R) : Z := Int_part x.

Lemma floor_bounds x : IZR (floor x) <= x < IZR (floor x) + 1.
Proof. unfold floor. destruct (base_Int_part x). lra. Qed.

Lemma floor_unique x k : IZR k <= x < IZR k + 1 -> floor x = k.
Proof.
  intros [A B]. destruct (floor_bounds x) as [C D].
  assert (floor x < k + 1)%Z by (apply lt_IZR; rewrite plus_IZR; lra).
  assert (k < floor x + 1)%Z by (apply lt_IZR; rewrite plus_IZR; lra). lia.
Qed.

Section Q2.
Variables (n : nat) (prob : nat -> R) (u : R).
Hypothesis probabilities : forall i, (i < n)%nat -> 0 <= prob i <= 1.
Hypothesis start : 0 <= u < 1.
Definition c (i : nat) : R := sum i prob.                                     (* p_0 + ... + p_{i-1} *)
Definition d (i : nat) : Z := (floor (u + c (S i)) - floor (u + c i))%Z.         (* decision i *)

Lemma floor_start : floor (u + c 0) = 0%Z.
Proof. apply floor_unique. unfold c. simpl. lra. Qed.

Theorem Q2_binary i : (i < n)%nat -> d i = 0%Z \/ d i = 1%Z.
Proof.
  intros H. pose proof (probabilities i H). unfold d. assert (E : c (S i) = c i + prob i) by reflexivity.
  pose proof (floor_bounds (u + c i)). pose proof (floor_bounds (u + c (S i))).
  assert (floor (u + c i) < floor (u + c (S i)) + 1)%Z by (apply lt_IZR; rewrite plus_IZR; lra).
  assert (floor (u + c (S i)) < floor (u + c i) + 2)%Z by (apply lt_IZR; rewrite plus_IZR; lra). lia.
Qed.

(* the starts that decide 1 are those with a whole number in (u + c_i, u + c_i + p_i]: an interval of length p_i, again and again with
   period 1; so a uniform start decides 1 with probability p_i *)
Theorem Q2_own i : (i < n)%nat -> d i = 1%Z <-> exists k : Z, IZR k - c i - prob i <= u < IZR k - c i.
Proof.
  intros H. pose proof (probabilities i H). unfold d. assert (E : c (S i) = c i + prob i) by reflexivity.
  pose proof (floor_bounds (u + c i)) as A. pose proof (floor_bounds (u + c (S i))) as B. split.
  - intros D. exists (floor (u + c (S i))). split; [lra|].
    assert (F : floor (u + c (S i)) = (floor (u + c i) + 1)%Z) by lia. rewrite F, plus_IZR. lra.
  - intros [k [K0 K1]].
    assert (floor (u + c i) < k)%Z by (apply lt_IZR; lra).
    assert (k < floor (u + c (S i)) + 1)%Z by (apply lt_IZR; rewrite plus_IZR; lra).
    destruct (Q2_binary i H) as [D|D]; unfold d in D; lia.
Qed.

Lemma decided i : sum i (fun k => IZR (d k)) = IZR (floor (u + c i)).
Proof.
  induction i as [|i IH]; simpl; [rewrite floor_start; reflexivity|].
  rewrite IH. unfold d. rewrite minus_IZR. lra.
Qed.

Theorem Q2_prefix i : Rabs (sum i (fun k => IZR (d k)) - sum i prob) < 1.
Proof.
  rewrite decided. fold (c i). pose proof (floor_bounds (u + c i)). apply Rabs_def1; lra.
Qed.

Theorem Q2_whole i k : sum i prob = IZR k -> sum i (fun j => IZR (d j)) = sum i prob.
Proof.
  intros E. rewrite decided, E. f_equal. apply floor_unique. unfold c. rewrite E. lra.
Qed.
End Q2.

(* the gap of decision rates *)
Theorem Q2_gap n0 n1 d0 d1 p0 p1 gap : 0 < n0 -> 0 < n1 -> Rabs (d0 - p0) < 1 -> Rabs (d1 - p1) < 1 ->
  Rabs (p0 / n0 - p1 / n1) <= gap -> Rabs (d0 / n0 - d1 / n1) < gap + / n0 + / n1.
Proof.
  intros H0 H1 A B G. apply Rabs_def2 in A. apply Rabs_def2 in B.
  pose proof (Rinv_0_lt_compat _ H0). pose proof (Rinv_0_lt_compat _ H1).
  assert (- / n0 < (d0 - p0) * / n0 < / n0) by (split; nra).
  assert (- / n1 < (d1 - p1) * / n1 < / n1) by (split; nra).
  replace (d0 / n0 - d1 / n1) with (p0 / n0 - p1 / n1 + (d0 - p0) * / n0 - (d1 - p1) * / n1) by (unfold Rdiv; ring).
  unfold Rabs in G. destruct (Rcase_abs (p0 / n0 - p1 / n1)); apply Rabs_def1; lra.
Qed.
