(* N3: what the tolerance costs, for any convex gap (so any numbers of groups and attributes) without a box. *)
Require Import Reals Lra Lia Psatz.
From Fairopt Require Import Sums FromBatches.
Open Scope R_scope.

Section N3.
Variables (n : nat) (z w : nat -> R) (gap_of : (nat -> R) -> R) (y : R -> nat -> R) (raw : R).
Definition square (f : nat -> R) : R := sum n (fun i => w i * (f i * f i)).
Definition away (f : nat -> R) : R := square (fun i => f i - z i).
Definition dist (e : R) : R := sqrt (away (y e)).
Definition V (e : R) : R := / 2 * away (y e).
Hypothesis weights : forall i, (i < n)%nat -> 0 < w i.
Hypothesis convex : forall f h s, 0 <= s <= 1 ->
  gap_of (fun i => f i + s * (h i - f i)) <= gap_of f + s * (gap_of h - gap_of f).
Hypothesis y_fair : forall e, 0 <= e -> gap_of (y e) <= e.
Hypothesis y_nearest : forall e f, 0 <= e -> gap_of f <= e -> away (y e) <= away f.
Hypothesis raw_gap : gap_of z = raw.

Lemma square_ge0 f : 0 <= square f.
Proof. apply sum_ge0. intros i H. pose proof (weights i H). apply Rmult_le_pos; [lra|apply Rle_0_sqr]. Qed.

Theorem N3_falls e e' : 0 <= e <= e' -> dist e' <= dist e.
Proof.
  intros H. apply sqrt_le_1_alt. apply y_nearest; [lra|]. pose proof (y_fair e ltac:(lra)). lra.
Qed.

Lemma inner f h : sum n (fun i => w i * (f i * h i)) <= sqrt (square f) * sqrt (square h).
Proof.
  assert (E : forall a b, sum n (fun i => w i * (a i * b i)) = sum n (fun i => sqrt (w i) * a i * (sqrt (w i) * b i))).
  { intros a b. apply sum_ext. intros i H. pose proof (weights i H) as P.
    replace (sqrt (w i) * a i * (sqrt (w i) * b i)) with (sqrt (w i) * sqrt (w i) * (a i * b i)) by ring.
    rewrite sqrt_sqrt by lra. reflexivity. }
  unfold square. rewrite !E. eapply Rle_trans; [apply Rle_abs|].
  exact (norm_bound n (fun i => sqrt (w i) * f i) (fun i => sqrt (w i) * h i)).
Qed.

Lemma triangle a b : 0 <= a -> 0 <= b -> forall f h,
  sqrt (square (fun i => a * f i + b * h i)) <= a * sqrt (square f) + b * sqrt (square h).
Proof.
  intros Ha Hb f h. pose proof (sqrt_pos (square f)) as F. pose proof (sqrt_pos (square h)) as G.
  apply le_of_squares; [apply Rplus_le_le_0_compat; apply Rmult_le_pos; assumption|].
  rewrite sqrt_sqrt by apply square_ge0.
  assert (E : square (fun i => a * f i + b * h i) = a * a * square f + 2 * (a * b) * sum n (fun i => w i * (f i * h i)) + b * b * square h).
  { unfold square. rewrite <- !sum_scal, <- !sum_plus. apply sum_ext. intros; ring. }
  rewrite E. pose proof (sqrt_sqrt _ (square_ge0 f)). pose proof (sqrt_sqrt _ (square_ge0 h)).
  assert (a * b * sum n (fun i => w i * (f i * h i)) <= a * b * (sqrt (square f) * sqrt (square h)))
    by (apply Rmult_le_compat_l; [apply Rmult_le_pos; assumption|apply inner]).
  nra.
Qed.

Theorem N3_convex e e' s : 0 <= e -> 0 <= e' -> 0 <= s <= 1 -> dist (e + s * (e' - e)) <= dist e + s * (dist e' - dist e).
Proof.
  intros He He' Hs.
  apply Rle_trans with (sqrt (away (fun i => y e i + s * (y e' i - y e i)))).
  - apply sqrt_le_1_alt. apply y_nearest; [nra|]. eapply Rle_trans; [apply convex; exact Hs|].
    pose proof (y_fair e He). pose proof (y_fair e' He'). nra.
  - unfold away at 1. replace (square (fun i => y e i + s * (y e' i - y e i) - z i))
      with (square (fun i => (1 - s) * (y e i - z i) + s * (y e' i - z i))).
    + eapply Rle_trans; [apply triangle; lra|]. unfold dist, away. lra.
    + unfold square. apply sum_ext. intros; ring.
Qed.

Theorem N3 e : 0 <= e <= raw -> 0 < raw -> V e <= (1 - e / raw) * (1 - e / raw) * V 0.
Proof.
  intros He Hr. set (s := e / raw).
  assert (Hs : 0 <= s <= 1).
  { unfold s. split; [apply Rmult_le_pos; [lra|apply Rlt_le, Rinv_0_lt_compat; lra]|].
    apply Rmult_le_reg_r with raw; [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. lra. }
  assert (L : away (y e) <= away (fun i => y 0 i + s * (z i - y 0 i))).
  { apply y_nearest; [lra|]. eapply Rle_trans; [apply convex; exact Hs|]. rewrite raw_gap.
    pose proof (y_fair 0 ltac:(lra)). assert (s * raw = e) by (unfold s; field; lra). nra. }
  assert (E : away (fun i => y 0 i + s * (z i - y 0 i)) = (1 - s) * (1 - s) * away (y 0)).
  { unfold away, square. rewrite <- sum_scal. apply sum_ext. intros; ring. }
  unfold V. rewrite E in L. lra.
Qed.
End N3.
