(* P4, Theorem D: several attributes of one population, any numbers of groups, any stream, any batch sizes. *)
Require Import Reals Lra Lia Psatz Arith.
From Fairopt Require Import Sums Neutral.
Open Scope R_scope.

Section TheoremD.
Variables (lb ub eps : R) (m : nat) (K : nat -> nat).                 (* m attributes, K j groups each *)
Variables (n : nat -> nat) (g : nat -> nat -> nat -> nat).             (* size of batch t; group of its sample i in attribute j *)
Variables (z y : nat -> nat -> R) (gamma : nat -> R) (W : nat -> nat -> nat -> R).   (* W t j: the targets of attribute j before batch t *)

Definition members (t j k : nat) (f : nat -> R) : R := sum (n t) (fun i => if Nat.eqb (g t j i) k then f i else 0).
Fixpoint C (t j k : nat) : R := match t with O => 0 | S s => C s j k + members s j k (fun _ => 1) end.      (* counts before batch t *)
Fixpoint Sm (t j k : nat) : R := match t with O => 0 | S s => Sm s j k + members s j k (y s) end.           (* sums before batch t *)
Definition M (t j k : nat) : R := Sm t j k / C t j k.
Definition Mf (t j k : nat) (f : nat -> R) : R := (Sm t j k + members t j k f) / C (S t) j k.
Definition allowed (t : nat) (T : nat -> nat -> R) : Prop := forall j, (j < m)%nat -> admissible (K j) eps (C t j) (T j).
Definition potential (t : nat) (f : nat -> R) (T : nat -> nat -> R) : R :=
  sum m (fun j => misfit (K j) (C (S t) j) (fun k => Mf t j k f) (T j)).
Definition objective (t : nat) (f : nat -> R) (T : nat -> nat -> R) : R :=
  / 2 * sum (n t) (fun i => (f i - z t i) * (f i - z t i)) + gamma t / 2 * potential t f T.
Definition inside (t : nat) (f : nat -> R) : Prop := forall i, (i < n t)%nat -> lb <= f i <= ub.

Hypothesis box : lb <= ub.
Hypothesis eps_pos : 0 <= eps.
Hypothesis gamma_pos : forall t, 0 < gamma t.
Hypothesis in_groups : forall t j i, (j < m)%nat -> (i < n t)%nat -> (g t j i < K j)%nat.
Hypothesis z_in : forall t, inside t (z t).
Hypothesis y_in : forall t, inside t (y t).
(* Psi is a minimum over targets: the rule minimises over scores and targets together *)
Hypothesis W_allowed : forall t, allowed (S t) (W (S t)).
Hypothesis least : forall t f T, inside t f -> allowed (S t) T -> objective t (y t) (W (S t)) <= objective t f T.

Definition Psi (t : nat) : R := sum m (fun j => misfit (K j) (C t j) (M t j) (W t j)).

Lemma members_ge0 t j k : 0 <= members t j k (fun _ => 1).
Proof. apply sum_ge0. intros i _. destruct (Nat.eqb (g t j i) k); lra. Qed.

Lemma C_ge0 t j k : 0 <= C t j k.
Proof. induction t as [|t IH]; cbn [C]; [lra|]. pose proof (members_ge0 t j k). lra. Qed.

Lemma members_all t j f : (j < m)%nat -> sum (K j) (fun k => members t j k f) = sum (n t) f.
Proof.
  intros Hj. unfold members. rewrite sum_swap. apply sum_ext. intros i Hi. apply sum_one. apply in_groups; assumption.
Qed.

(* counts and sums of the whole population: the same for every attribute *)
Fixpoint total (t : nat) : R := match t with O => 0 | S s => total s + INR (n s) end.
Fixpoint whole (t : nat) : R := match t with O => 0 | S s => whole s + sum (n s) (y s) end.

Lemma C_total t j : (j < m)%nat -> sum (K j) (C t j) = total t.
Proof.
  intros Hj. induction t as [|t IH]; cbn [C total]; [apply sum_zero|].
  rewrite sum_plus, (members_all t j _ Hj), sum_const, IH. ring.
Qed.

Lemma S_whole t j : (j < m)%nat -> sum (K j) (Sm t j) = whole t.
Proof.
  intros Hj. induction t as [|t IH]; cbn [Sm whole]; [apply sum_zero|].
  rewrite sum_plus, (members_all t j _ Hj), IH. ring.
Qed.

Lemma S_in t j k : C t j k * lb <= Sm t j k <= C t j k * ub.
Proof.
  induction t as [|t IH]; cbn [C Sm]; [lra|].
  assert (members t j k (fun _ => 1) * lb <= members t j k (y t) <= members t j k (fun _ => 1) * ub); [|lra].
  unfold members. rewrite !(Rmult_comm (sum (n t) _)), <- !sum_scal.
  split; apply sum_le; intros i Hi; pose proof (y_in t i Hi); destruct (Nat.eqb (g t j i) k); lra.
Qed.

Lemma CM t j k : C t j k * M t j k = Sm t j k.
Proof.
  unfold M. destruct (Req_dec (C t j k) 0) as [Z|Z]; [|field; exact Z].
  pose proof (S_in t j k). rewrite Z in *. lra.
Qed.

Lemma total_ge0 t : 0 <= total t.
Proof. induction t as [|t IH]; cbn [total]; [lra|]. pose proof (pos_INR (n t)). lra. Qed.

Lemma whole_in t : total t * lb <= whole t <= total t * ub.
Proof.
  induction t as [|t IH]; cbn [total whole]; [lra|].
  assert (INR (n t) * lb <= sum (n t) (y t) <= INR (n t) * ub); [|lra].
  rewrite <- !sum_const. split; apply sum_le; intros i Hi; pose proof (y_in t i Hi); lra.
Qed.

(* the targets of the state are optimal for it *)
Lemma W_optimal t j : (j < m)%nat -> optimal (K j) eps (C t j) (M t j) (W t j).
Proof.
  intros Hj. destruct t as [|t].
  - split; [intros a b _ _ P; simpl in P; lra|]. intros T' _. unfold misfit. right. apply sum_ext. intros k _. simpl. ring.
  - split; [apply W_allowed; exact Hj|]. intros T' A.
    set (T := fun i => if Nat.eqb i j then T' else W (S t) i).
    assert (allowed (S t) T).
    { intros i Hi. unfold T. destruct (Nat.eqb_spec i j) as [->|]; [exact A|apply W_allowed; exact Hi]. }
    pose proof (least t (y t) T (y_in t) H) as L. unfold objective in L. pose proof (gamma_pos t).
    assert (potential t (y t) (W (S t)) <= potential t (y t) T) by nra.
    unfold potential in H1.
    rewrite (sum_ext m (fun i => misfit (K i) (C (S t) i) (fun k => Mf t i k (y t)) (T i))
      (fun i => if Nat.eqb i j then misfit (K j) (C (S t) j) (M (S t) j) T'
                else misfit (K i) (C (S t) i) (fun k => Mf t i k (y t)) (W (S t) i))) in H1.
    + rewrite (sum_replace m (fun i => misfit (K i) (C (S t) i) (fun k => Mf t i k (y t)) (W (S t) i)) j _ Hj) in H1.
      change (fun k => Mf t j k (y t)) with (M (S t) j) in H1. lra.
    + intros i Hi. unfold T. destruct (Nat.eqb_spec i j) as [->|]; reflexivity.
Qed.

(* the neutral reply: the overall mean, or anything before the first sample *)
Definition reply (t : nat) : R := if Req_EM_T (total t) 0 then lb else whole t / total t.

Lemma reply_in t : lb <= reply t <= ub.
Proof.
  unfold reply. destruct (Req_EM_T (total t) 0); [lra|]. pose proof (whole_in t). pose proof (total_ge0 t).
  split; apply Rmult_le_reg_r with (total t); try lra; unfold Rdiv; rewrite Rmult_assoc, Rinv_l by lra; lra.
Qed.

Definition replied (t j : nat) : nat -> R := after (C t j) (fun k => members t j k (fun _ => 1)) (reply t) (W t j).

Lemma members_const t j k c : members t j k (fun _ => c) = members t j k (fun _ => 1) * c.
Proof.
  unfold members. rewrite Rmult_comm, <- sum_scal. apply sum_ext. intros i _. destruct (Nat.eqb (g t j i) k); ring.
Qed.

Lemma neutral t : allowed (S t) (replied t) /\ potential t (fun _ => reply t) (replied t) <= Psi t.
Proof.
  assert (each : forall j, (j < m)%nat -> admissible (K j) eps (C (S t) j) (replied t j) /\
    misfit (K j) (C (S t) j) (fun k => Mf t j k (fun _ => reply t)) (replied t j) <= misfit (K j) (C t j) (M t j) (W t j)).
  { intros j Hj.
    assert (E : forall k, Mf t j k (fun _ => reply t) = after (C t j) (fun k => members t j k (fun _ => 1)) (reply t) (M t j) k).
    { intros k. unfold Mf, after, N'. rewrite members_const, CM. reflexivity. }
    destruct (Req_EM_T (total t) 0) as [Z|Z].
    - assert (C0 : forall k, (k < K j)%nat -> C t j k = 0).
      { intros k Hk. pose proof (C_ge0 t j k). pose proof (C_total t j Hj).
        pose proof (sum_term (K j) (C t j) k (fun i _ => C_ge0 t j i) Hk). lra. }
      assert (R0 : forall v k, (k < K j)%nat -> 0 < C (S t) j k ->
        after (C t j) (fun k => members t j k (fun _ => 1)) (reply t) v k = reply t).
      { intros v k Hk P. unfold after, N'. cbn [C] in P. rewrite (C0 k Hk) in *. field. lra. }
      split.
      + intros a b Ha Hb Pa Pb. unfold replied. rewrite !R0 by assumption. lra.
      + unfold misfit. apply sum_le. intros k Hk. rewrite (C0 k Hk), Rmult_0_l.
        destruct (Req_dec (C (S t) j k) 0) as [Z'|Z']; [rewrite Z'; lra|].
        assert (0 < C (S t) j k) by (pose proof (C_ge0 (S t) j k); lra).
        rewrite E. unfold replied. rewrite !R0 by assumption. right. ring.
    - assert (P : 0 < total t) by (pose proof (total_ge0 t); lra).
      pose proof (N2_potential (K j) (C t j) (fun k => members t j k (fun _ => 1)) (M t j) eps (total t) (reply t)
        (fun k _ => conj (C_ge0 t j k) (members_ge0 t j k)) (eq_sym (C_total t j Hj)) P) as H.
      destruct H with (T := W t j) as [A L].
      + unfold reply. destruct (Req_EM_T (total t) 0); [contradiction|].
        rewrite (sum_ext (K j) _ (Sm t j)) by (intros; apply CM). rewrite (S_whole t j Hj). field. exact Z.
      + exact eps_pos.
      + apply W_optimal. exact Hj.
      + split; [exact A|]. eapply Rle_trans; [|exact L]. right. unfold misfit. apply sum_ext. intros k _. rewrite E. reflexivity. }
  split; [intros j Hj; apply each; exact Hj|]. unfold potential, Psi. apply sum_le. intros j Hj. apply each. exact Hj.
Qed.

(* on the segment from (f, T) to (f', T') the potential lies below the chord *)
Lemma convex t f f' T T' s : 0 <= s <= 1 ->
  potential t (fun i => f i + s * (f' i - f i)) (fun j k => T j k + s * (T' j k - T j k))
  <= potential t f T + s * (potential t f' T' - potential t f T).
Proof.
  intros Hs. unfold potential. rewrite <- sum_minus, <- sum_scal, <- sum_plus. apply sum_le. intros j Hj.
  unfold misfit. rewrite <- sum_minus, <- sum_scal, <- sum_plus. apply sum_le. intros k Hk.
  assert (E : Mf t j k (fun i => f i + s * (f' i - f i)) = Mf t j k f + s * (Mf t j k f' - Mf t j k f)).
  { unfold Mf. assert (members t j k (fun i => f i + s * (f' i - f i)) = members t j k f + s * (members t j k f' - members t j k f)).
    { unfold members. rewrite <- sum_minus, <- sum_scal, <- sum_plus. apply sum_ext. intros i _.
      destruct (Nat.eqb (g t j i) k); ring. }
    rewrite H. unfold Rdiv. ring. }
  rewrite E. pose proof (C_ge0 (S t) j k) as P.
  set (a := Mf t j k f - T j k). set (b := Mf t j k f' - T' j k).
  replace (Mf t j k f + s * (Mf t j k f' - Mf t j k f) - (T j k + s * (T' j k - T j k))) with (a + s * (b - a)) by (unfold a, b; ring).
  assert (Q : (a + s * (b - a)) * (a + s * (b - a)) <= a * a + s * (b * b - a * a)).
  { assert (0 <= s * (1 - s)) by nra. assert (0 <= (a - b) * (a - b)) by apply Rle_0_sqr. nra. }
  pose proof (Rmult_le_compat_l _ _ _ P Q). lra.
Qed.

Theorem P4_D_step t : Psi (S t) <= Psi t + INR (n t) * ((ub - lb) * (ub - lb)) / (2 * gamma t).
Proof.
  destruct (neutral t) as [A L]. pose proof (gamma_pos t) as G. pose proof (reply_in t) as Rc.
  set (c := reply t) in *. set (T' := replied t) in *.
  change (Psi (S t)) with (potential t (y t) (W (S t))).
  set (inner := sum (n t) (fun i => (y t i - z t i) * (c - y t i))).
  set (sq := sum (n t) (fun i => (c - y t i) * (c - y t i))).
  assert (Sq : 0 <= sq) by (apply sum_ge0; intros; apply Rle_0_sqr).
  set (change := potential t (fun _ => c) T' - potential t (y t) (W (S t))).
  assert (F : - (inner + gamma t / 2 * change) <= 0).
  { apply (first_order _ (/ 2 * sq + 1) 1); [lra|lra|]. intros s [S0 S1].
    assert (In : inside t (fun i => y t i + s * (c - y t i))).
    { intros i Hi. pose proof (y_in t i Hi). split; nra. }
    assert (Al : allowed (S t) (fun j k => W (S t) j k + s * (T' j k - W (S t) j k))).
    { intros j Hj a b Ha Hb Pa Pb. pose proof (W_allowed t j Hj a b Ha Hb Pa Pb). pose proof (A j Hj a b Ha Hb Pa Pb).
      assert (s * (T' j a - T' j b) <= s * eps) by (apply Rmult_le_compat_l; lra).
      assert ((1 - s) * (W (S t) j a - W (S t) j b) <= (1 - s) * eps) by (apply Rmult_le_compat_l; lra). lra. }
    pose proof (least t _ _ In Al) as O. unfold objective in O.
    pose proof (convex t (y t) (fun _ => c) (W (S t)) T' s ltac:(lra)) as V. fold change in V.
    assert (E : sum (n t) (fun i => (y t i + s * (c - y t i) - z t i) * (y t i + s * (c - y t i) - z t i))
      = sum (n t) (fun i => (y t i - z t i) * (y t i - z t i)) + 2 * s * inner + s * s * sq).
    { unfold inner, sq. rewrite <- !sum_scal, <- !sum_plus. apply sum_ext. intros; ring. }
    rewrite E in O.
    assert (gamma t / 2 * potential t (fun i => y t i + s * (c - y t i)) (fun j k => W (S t) j k + s * (T' j k - W (S t) j k))
      <= gamma t / 2 * (potential t (y t) (W (S t)) + s * change)) by (apply Rmult_le_compat_l; lra).
    assert (s * s * sq <= s * s * sq + s * s) by nra. nra. }
  assert (B : inner <= INR (n t) * ((ub - lb) * (ub - lb) / 4)).
  { unfold inner. rewrite <- sum_const. apply sum_le. intros i Hi. pose proof (y_in t i Hi). pose proof (z_in t i Hi).
    assert (0 <= (2 * y t i - z t i - c) * (2 * y t i - z t i - c)) by apply Rle_0_sqr.
    assert ((c - z t i) * (c - z t i) <= (ub - lb) * (ub - lb)) by nra. nra. }
  apply Rmult_le_reg_l with (gamma t / 2); [lra|].
  replace (gamma t / 2 * (Psi t + INR (n t) * ((ub - lb) * (ub - lb)) / (2 * gamma t)))
    with (gamma t / 2 * Psi t + INR (n t) * ((ub - lb) * (ub - lb) / 4)) by (field; lra).
  assert (gamma t / 2 * potential t (fun _ => c) T' <= gamma t / 2 * Psi t) by (apply Rmult_le_compat_l; lra).
  unfold change in F. lra.
Qed.

Lemma Psi_bound t : Psi t <= sum t (fun s => INR (n s) * ((ub - lb) * (ub - lb)) / (2 * gamma s)).
Proof.
  induction t as [|t IH].
  - right. simpl. unfold Psi. rewrite <- (sum_zero m). apply sum_ext. intros j _. unfold misfit.
    rewrite <- (sum_zero (K j)). apply sum_ext. intros k _. simpl. ring.
  - simpl. pose proof (P4_D_step t). lra.
Qed.

Theorem P4_D t j a b : (j < m)%nat -> (a < K j)%nat -> (b < K j)%nat -> 0 < C (S t) j a -> 0 < C (S t) j b ->
  M (S t) j a - M (S t) j b
  <= eps + sqrt ((/ C (S t) j a + / C (S t) j b) * sum (S t) (fun s => INR (n s) * ((ub - lb) * (ub - lb)) / (2 * gamma s))).
Proof.
  intros Hj Ha Hb Pa Pb. pose proof (Psi_bound (S t)) as B.
  set (total := sum (S t) (fun s => INR (n s) * ((ub - lb) * (ub - lb)) / (2 * gamma s))) in *.
  pose proof (Rinv_0_lt_compat _ Pa) as Ia. pose proof (Rinv_0_lt_compat _ Pb) as Ib.
  destruct (Nat.eq_dec a b) as [->|ne].
  { pose proof (sqrt_pos ((/ C (S t) j b + / C (S t) j b) * total)). lra. }
  pose proof (W_allowed t j Hj a b Ha Hb Pa Pb) as A.
  set (x := M (S t) j a - W (S t) j a). set (w := M (S t) j b - W (S t) j b).
  set (p := C (S t) j a) in *. set (q := C (S t) j b) in *.
  assert (one : p * (x * x) + q * (w * w) <= total).
  { apply Rle_trans with (misfit (K j) (C (S t) j) (M (S t) j) (W (S t) j)).
    - unfold misfit, x, w, p, q.
      apply (sum_two (K j) (fun k => C (S t) j k * ((M (S t) j k - W (S t) j k) * (M (S t) j k - W (S t) j k)))); try assumption.
      intros k _. apply Rmult_le_pos; [apply C_ge0|apply Rle_0_sqr].
    - eapply Rle_trans; [|exact B]. unfold Psi.
      apply (sum_term m (fun j => misfit (K j) (C (S t) j) (M (S t) j) (W (S t) j))); [|exact Hj].
      intros i _. unfold misfit. apply sum_ge0. intros k _. apply Rmult_le_pos; [apply C_ge0|apply Rle_0_sqr]. }
  assert (M (S t) j a - M (S t) j b - eps <= sqrt ((/ p + / q) * total)); [|lra].
  apply Rle_trans with (sqrt ((x - w) * (x - w))).
  - change ((x - w) * (x - w)) with (Rsqr (x - w)). rewrite sqrt_Rsqr_abs. eapply Rle_trans; [|apply Rle_abs]. unfold x, w. lra.
  - apply sqrt_le_1_alt. apply Rle_trans with ((/ p + / q) * (p * (x * x) + q * (w * w))); [|apply Rmult_le_compat_l; lra].
    replace ((/ p + / q) * (p * (x * x) + q * (w * w)))
      with ((x - w) * (x - w) + (p * x + q * w) * (p * x + q * w) * (/ p * / q)) by (field; lra).
    assert (0 <= (p * x + q * w) * (p * x + q * w) * (/ p * / q)); [|lra].
    apply Rmult_le_pos; [apply Rle_0_sqr|apply Rlt_le, Rmult_lt_0_compat; assumption].
Qed.
End TheoremD.
