(* B1, B2, B3, N5: from the batches to the whole, two groups. *)
Require Import Reals Lra Lia Psatz.
From Fairopt Require Import Sums.
Open Scope R_scope.

(* B1: c0, c1 the counts of a batch, m0, m1 its means; the ratio of the counts is the same in every batch *)
Section B1.
Variables (T : nat) (c0 c1 m0 m1 : nat -> R) (ratio eps : R).
Hypothesis some : (1 <= T)%nat.
Hypothesis both : forall t, (t < T)%nat -> 0 < c1 t.
Hypothesis ratio_pos : 0 < ratio.
Hypothesis equal_composition : forall t, (t < T)%nat -> c0 t = ratio * c1 t.
Hypothesis batch_gap : forall t, (t < T)%nat -> Rabs (m0 t - m1 t) <= eps.
Definition whole (c m : nat -> R) : R := sum T (fun t => c t * m t) / sum T c.

Theorem B1 : Rabs (whole c0 m0 - whole c1 m1) <= eps.
Proof.
  assert (P : 0 < sum T c1).
  { destruct T as [|n]; [lia|]. simpl.
    assert (0 <= sum n c1) by (apply sum_ge0; intros; apply Rlt_le, both; lia).
    pose proof (both n ltac:(lia)). lra. }
  assert (E0 : sum T c0 = ratio * sum T c1).
  { rewrite <- sum_scal. apply sum_ext. exact equal_composition. }
  assert (E1 : sum T (fun t => c0 t * m0 t) = ratio * sum T (fun t => c1 t * m0 t)).
  { rewrite <- sum_scal. apply sum_ext. intros t H. rewrite (equal_composition t H). ring. }
  replace (whole c0 m0 - whole c1 m1) with (sum T (fun t => c1 t * (m0 t - m1 t)) / sum T c1).
  2:{ unfold whole. rewrite E0, E1.
      rewrite (sum_ext T (fun t => c1 t * (m0 t - m1 t)) (fun t => c1 t * m0 t - c1 t * m1 t)) by (intros; ring).
      rewrite sum_minus. field. split; lra. }
  unfold Rdiv. rewrite Rabs_mult, (Rabs_right (/ _)) by (apply Rle_ge, Rlt_le, Rinv_0_lt_compat; exact P).
  apply Rmult_le_reg_r with (sum T c1); [exact P|]. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
  eapply Rle_trans; [apply sum_abs|]. rewrite <- sum_scal. apply sum_le. intros t H.
  rewrite Rabs_mult, (Rabs_right (c1 t)), Rmult_comm by (apply Rle_ge, Rlt_le, both; exact H).
  apply Rmult_le_compat_r; [apply Rlt_le, both; exact H|apply batch_gap; exact H].
Qed.
End B1.

(* B2: a, b the shares of the two groups that fall in a batch; its means in [lb, ub] (any number there where a share is 0) *)
Section B2.
Variables (T : nat) (a b mu0 mu1 : nat -> R) (lb ub eps : R).
Hypothesis a_pos : forall t, (t < T)%nat -> 0 <= a t.
Hypothesis b_pos : forall t, (t < T)%nat -> 0 <= b t.
Hypothesis a_one : sum T a = 1.
Hypothesis b_one : sum T b = 1.
Hypothesis mu0_in : forall t, (t < T)%nat -> lb <= mu0 t <= ub.
Hypothesis mu1_in : forall t, (t < T)%nat -> lb <= mu1 t <= ub.
Definition M0 := sum T (fun t => a t * mu0 t).
Definition M1 := sum T (fun t => b t * mu1 t).
Definition gap (t : nat) := if Req_EM_T (a t) 0 then 0 else if Req_EM_T (b t) 0 then 0 else Rabs (mu0 t - mu1 t).
Definition TV := / 2 * sum T (fun t => Rabs (a t - b t)).

Lemma one_batch t : (t < T)%nat ->
  Rabs (a t * mu0 t - b t * mu1 t - (a t - b t) * ((lb + ub) / 2))
  <= Rmin (a t) (b t) * gap t + (ub - lb) / 2 * Rabs (a t - b t).
Proof.
  intros H. pose proof (a_pos t H). pose proof (b_pos t H). pose proof (mu0_in t H). pose proof (mu1_in t H).
  unfold gap. destruct (Req_EM_T (a t) 0) as [Ea|Ea]; [|destruct (Req_EM_T (b t) 0) as [Eb|Eb]].
  - rewrite Ea, Rmin_left by lra. unfold Rabs; repeat destruct Rcase_abs; nra.
  - rewrite Eb, Rmin_right by lra. unfold Rabs; repeat destruct Rcase_abs; nra.
  - destruct (Rle_dec (a t) (b t)).
    + rewrite Rmin_left by lra. unfold Rabs; repeat destruct Rcase_abs; nra.
    + rewrite Rmin_right by lra. unfold Rabs; repeat destruct Rcase_abs; nra.
Qed.

Theorem B2 : Rabs (M0 - M1) <= sum T (fun t => Rmin (a t) (b t) * gap t) + (ub - lb) * TV.
Proof.
  assert (E : M0 - M1 = sum T (fun t => a t * mu0 t - b t * mu1 t - (a t - b t) * ((lb + ub) / 2))).
  { rewrite (sum_ext T _ (fun t => (a t * mu0 t + -1 * (b t * mu1 t)) + (- ((lb + ub) / 2) * a t + (lb + ub) / 2 * b t)))
      by (intros; ring).
    rewrite sum_plus, sum_plus, sum_plus, !sum_scal, a_one, b_one. unfold M0, M1. ring. }
  rewrite E. eapply Rle_trans; [apply sum_abs|].
  eapply Rle_trans; [apply sum_le; intros t Ht; apply one_batch; exact Ht|].
  rewrite sum_plus, sum_scal. unfold TV. lra.
Qed.

Lemma mins : sum T (fun t => Rmin (a t) (b t)) = 1 - TV.
Proof.
  assert (E : forall t, Rmin (a t) (b t) = / 2 * a t + / 2 * b t + - / 2 * Rabs (a t - b t)).
  { intros t. unfold Rmin, Rabs. destruct (Rle_dec (a t) (b t)), (Rcase_abs (a t - b t)); lra. }
  rewrite (sum_ext T _ (fun t => / 2 * a t + / 2 * b t + - / 2 * Rabs (a t - b t))) by (intros; apply E).
  rewrite !sum_plus, !sum_scal, a_one, b_one. unfold TV. lra.
Qed.

Theorem B2_eps : 0 <= eps -> (forall t, (t < T)%nat -> gap t <= eps) ->
  Rabs (M0 - M1) <= (1 - TV) * eps + TV * (ub - lb).
Proof.
  intros He Hg. eapply Rle_trans; [apply B2|].
  assert (sum T (fun t => Rmin (a t) (b t) * gap t) <= sum T (fun t => eps * Rmin (a t) (b t))).
  { apply sum_le. intros t Ht. rewrite (Rmult_comm eps). apply Rmult_le_compat_l; [|apply Hg; exact Ht].
    apply Rmin_glb; [apply a_pos|apply b_pos]; exact Ht. }
  rewrite sum_scal, mins in H. lra.
Qed.
End B2.

(* B3: n samples a batch; few of group 1 in the first, few of group 0 in the second; all scores 1, then all 0 *)
Section B3.
Variables (n few : nat).
Hypothesis some : (1 <= few)%nat.
Hypothesis fewer : (2 * few < n)%nat.
Definition big : R := INR n - INR few.
Definition small : R := INR few.
Definition M (first second : R) : R := (first * 1 + second * 0) / (first + second).

(* within a batch all scores are equal, so its gap is 0; the whole: group 0 is big in the first batch, group 1 in the second *)
Theorem B3 : M big small - M small big = 1 - 2 * (INR few / INR n).
Proof.
  assert (0 < INR n) by (apply lt_0_INR; lia).
  unfold M, big, small. field. lra.
Qed.
End B3.

Theorem B3_limit delta : 0 < delta -> exists n few : nat,
  (1 <= few)%nat /\ (2 * few < n)%nat /\ 1 - delta < M (big n few) (small few) - M (small few) (big n few).
Proof.
  intros Hd. destruct (archimed (2 / delta + 3)) as [A _].
  assert (P : 0 < 2 / delta) by (apply Rdiv_lt_0_compat; lra).
  assert (Z : (0 <= up (2 / delta + 3))%Z) by (apply le_IZR; lra).
  exists (Z.to_nat (up (2 / delta + 3))), 1%nat.
  set (m := Z.to_nat (up (2 / delta + 3))).
  assert (E : INR m = IZR (up (2 / delta + 3))) by (unfold m; rewrite INR_IZR_INZ, Z2Nat.id by exact Z; reflexivity).
  assert (Hn : (2 * 1 < m)%nat).
  { apply INR_lt. rewrite E. simpl. lra. }
  split; [lia|]. split; [exact Hn|].
  rewrite B3; try lia. simpl INR.
  assert (1 / INR m < delta / 2); [|lra].
  assert (0 < INR m) by (rewrite E; lra).
  apply Rmult_lt_reg_r with (INR m); [assumption|]. unfold Rdiv at 1. rewrite Rmult_assoc, Rinv_l by lra.
  rewrite E. apply Rle_lt_trans with (delta / 2 * (2 / delta)); [right; field; lra|].
  apply Rmult_lt_compat_l; lra.
Qed.

(* N5: Cauchy-Schwarz on what composition adds *)
Lemma cauchy_schwarz n f h :
  sum n (fun i => f i * h i) * sum n (fun i => f i * h i) <= sum n (fun i => f i * f i) * sum n (fun i => h i * h i).
Proof.
  induction n as [|n IH]; simpl; [lra|].
  set (s := sum n (fun i => f i * h i)) in *. set (A := sum n (fun i => f i * f i)) in *.
  set (B := sum n (fun i => h i * h i)) in *.
  assert (0 <= A) by (apply sum_ge0; intros; nra). assert (0 <= B) by (apply sum_ge0; intros; nra).
  assert (K : 2 * (s * (f n * h n)) <= A * (h n * h n) + B * (f n * f n)).
  { set (x := f n) in *. set (w := h n) in *.
    apply le_of_squares; [apply Rplus_le_le_0_compat; apply Rmult_le_pos; nra|].
    assert (0 <= (A * (w * w) - B * (x * x)) * (A * (w * w) - B * (x * x))) by apply Rle_0_sqr.
    assert (s * s * (x * w * (x * w)) <= A * B * (x * w * (x * w))) by (apply Rmult_le_compat_r; nra).
    nra. }
  nra.
Qed.

Lemma norm_bound n f h : Rabs (sum n (fun i => f i * h i))
  <= sqrt (sum n (fun i => f i * f i)) * sqrt (sum n (fun i => h i * h i)).
Proof.
  rewrite <- sqrt_mult by (apply sum_ge0; intros; nra). rewrite <- sqrt_Rsqr_abs. apply sqrt_le_1_alt.
  unfold Rsqr. apply cauchy_schwarz.
Qed.

Section N5.
Variables (T : nat) (a b mu0 mu1 : nat -> R) (c : R).
Hypothesis a_pos : forall t, (t < T)%nat -> 0 <= a t.
Hypothesis a_one : sum T a = 1.
Hypothesis b_one : sum T b = 1.

Theorem N5 : Rabs (sum T (fun t => a t * mu0 t) - sum T (fun t => b t * mu1 t))
  <= sum T (fun t => a t * Rabs (mu0 t - mu1 t))
     + sqrt (sum T (fun t => (a t - b t) * (a t - b t))) * sqrt (sum T (fun t => (mu1 t - c) * (mu1 t - c))).
Proof.
  assert (E : sum T (fun t => a t * mu0 t) - sum T (fun t => b t * mu1 t)
    = sum T (fun t => a t * (mu0 t - mu1 t)) + sum T (fun t => (a t - b t) * (mu1 t - c))).
  { rewrite (sum_ext T (fun t => (a t - b t) * (mu1 t - c)) (fun t => (a t * mu1 t - b t * mu1 t) + (- c * a t + c * b t)))
      by (intros; ring).
    rewrite (sum_ext T (fun t => a t * (mu0 t - mu1 t)) (fun t => a t * mu0 t - a t * mu1 t)) by (intros; ring).
    rewrite sum_plus, sum_plus, !sum_minus, !sum_scal, a_one, b_one. ring. }
  rewrite E. eapply Rle_trans; [apply Rabs_triang|]. apply Rplus_le_compat; [|apply norm_bound].
  eapply Rle_trans; [apply sum_abs|]. apply sum_le. intros t H.
  rewrite Rabs_mult, (Rabs_right (a t)) by (apply Rle_ge, a_pos; exact H). lra.
Qed.
End N5.
