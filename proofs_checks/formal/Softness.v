(* L9, one row in a box: a cap at least the price is exact; quadratic softness violates by at most price / gamma. *)
Require Import Reals Lra Lia Psatz.
From Fairopt Require Import Sums.
Open Scope R_scope.

Section L9.
Variables (n : nat) (z w a lb ub : nat -> R) (upper price gamma rho : R) (hard soft : nat -> R).
Definition row (f : nat -> R) : R := sum n (fun i => a i * f i).
Definition half (f : nat -> R) : R := / 2 * sum n (fun i => w i * ((f i - z i) * (f i - z i))).
Definition inside (f : nat -> R) : Prop := forall i, (i < n)%nat -> lb i <= f i <= ub i.
Definition over (f : nat -> R) : R := Rmax 0 (row f - upper).
Hypothesis weights : forall i, (i < n)%nat -> 0 < w i.
Hypothesis gamma_pos : 0 < gamma.
(* hard: the projection with its price *)
Hypothesis hard_inside : inside hard.
Hypothesis hard_fair : row hard <= upper.
Hypothesis price_pos : 0 <= price.
Hypothesis complementary : price * (row hard - upper) = 0.
Hypothesis hard_least : forall f, inside f -> half hard + price * row hard <= half f + price * row f.
(* soft: any minimiser of the softened problem *)
Hypothesis soft_inside : inside soft.
Hypothesis soft_least : forall f, inside f -> half soft + gamma / 2 * (over soft * over soft) <= half f + gamma / 2 * (over f * over f).

Definition dist : R := sum n (fun i => w i * ((soft i - hard i) * (soft i - hard i))).
Definition slope (f h : nat -> R) : R := sum n (fun i => w i * ((f i - z i) * (h i - f i))).

Lemma half_on_segment f h s : half (fun i => f i + s * (h i - f i))
  = half f + s * slope f h + s * s * (/ 2 * sum n (fun i => w i * ((h i - f i) * (h i - f i)))).
Proof. unfold half, slope. rewrite <- !sum_scal, <- !sum_plus. apply sum_ext. intros; field. Qed.

Lemma row_on_segment f h s : row (fun i => f i + s * (h i - f i)) = row f + s * (row h - row f).
Proof. unfold row. rewrite <- sum_minus, <- sum_scal, <- sum_plus. apply sum_ext. intros; ring. Qed.

Lemma segment_inside f h s : inside f -> inside h -> 0 <= s <= 1 -> inside (fun i => f i + s * (h i - f i)).
Proof. intros F H S i Hi. pose proof (F i Hi). pose proof (H i Hi). split; nra. Qed.

Lemma weighted_ge0 f h : 0 <= / 2 * sum n (fun i => w i * ((h i - f i) * (h i - f i))).
Proof.
  apply Rmult_le_pos; [lra|]. apply sum_ge0. intros i H. pose proof (weights i H).
  apply Rmult_le_pos; [lra|apply Rle_0_sqr].
Qed.

Lemma hard_variational : 0 <= slope hard soft + price * (row soft - row hard).
Proof.
  enough (- (slope hard soft + price * (row soft - row hard)) <= 0) by lra.
  pose proof (weighted_ge0 hard soft) as W.
  set (q := / 2 * sum n (fun i => w i * ((soft i - hard i) * (soft i - hard i)))) in *.
  apply (first_order _ (q + 1) 1); [lra|lra|].
  intros s [S0 S1]. pose proof (hard_least _ (segment_inside hard soft s hard_inside soft_inside ltac:(lra))) as L.
  rewrite half_on_segment, row_on_segment in L. fold q in L. nra.
Qed.

Lemma soft_variational : 0 <= slope soft hard + gamma * over soft * (row hard - row soft).
Proof.
  enough (- (slope soft hard + gamma * over soft * (row hard - row soft)) <= 0) by lra.
  pose proof (weighted_ge0 soft hard) as W.
  set (q := / 2 * sum n (fun i => w i * ((hard i - soft i) * (hard i - soft i)))) in *.
  set (r := row hard - row soft). assert (0 <= r * r) by apply Rle_0_sqr.
  apply (first_order _ (q + gamma / 2 * (r * r) + 1) 1); [lra|assert (0 <= gamma / 2 * (r * r)) by (apply Rmult_le_pos; lra); lra|].
  intros s [S0 S1]. pose proof (soft_least _ (segment_inside soft hard s soft_inside hard_inside ltac:(lra))) as L.
  rewrite half_on_segment in L. unfold over at 3 4 in L. rewrite row_on_segment in L. fold q r in L.
  pose proof (pos_square (row soft - upper) (s * r)) as K.
  replace (row soft - upper + s * r) with (row soft + s * r - upper) in K by ring.
  fold (over soft) in K.
  assert (gamma / 2 * (Rmax 0 (row soft + s * r - upper) * Rmax 0 (row soft + s * r - upper))
    <= gamma / 2 * (over soft * over soft + 2 * over soft * (s * r) + s * r * (s * r))) by (apply Rmult_le_compat_l; lra).
  nra.
Qed.

Lemma together : dist <= (price - gamma * over soft) * (row soft - row hard).
Proof.
  pose proof hard_variational as H. pose proof soft_variational as K.
  assert (E : dist = - (slope hard soft + slope soft hard)).
  { unfold dist, slope. rewrite <- sum_plus. replace (- sum n _) with (-1 * sum n (fun i => w i * ((hard i - z i) * (soft i - hard i))
      + w i * ((soft i - z i) * (hard i - soft i)))) by ring. rewrite <- sum_scal. apply sum_ext. intros; ring. }
  rewrite E. nra.
Qed.

Lemma dist_ge0 : 0 <= dist.
Proof. apply sum_ge0. intros i H. pose proof (weights i H). apply Rmult_le_pos; [lra|apply Rle_0_sqr]. Qed.

Theorem L9_quadratic : 0 <= over soft <= price / gamma.
Proof.
  split; [apply Rmax_l|]. pose proof together as T. pose proof dist_ge0 as P.
  apply Rmult_le_reg_r with gamma; [exact gamma_pos|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra.
  destruct (Rle_lt_dec (row soft) upper) as [L|L].
  - unfold over. rewrite Rmax_left by lra. lra.
  - assert (row soft - row hard > 0) by lra. assert (0 <= price - gamma * over soft); [nra|lra].
Qed.

Theorem L9_distance : dist <= price * price / (4 * gamma).
Proof.
  pose proof together as T. pose proof dist_ge0 as P.
  apply Rmult_le_reg_r with (4 * gamma); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra.
  destruct (Req_dec price 0) as [E|E].
  - assert (dist <= 0); [|nra]. rewrite E in T.
    destruct (Rle_lt_dec (row soft) upper) as [L|L].
    + unfold over in T. rewrite Rmax_left in T by lra. lra.
    + unfold over in T. rewrite Rmax_right in T by lra.
      assert (0 <= gamma * (row soft - upper) * (row soft - row hard)) by (apply Rmult_le_pos; [apply Rmult_le_pos|]; lra). lra.
  - assert (A : row hard = upper) by (destruct (Rmult_integral _ _ complementary); lra).
    destruct (Rle_lt_dec (row soft) upper) as [L|L].
    + unfold over in T. rewrite Rmax_left in T by lra.
      assert (dist <= 0); [|nra]. rewrite Rmult_0_r, Rminus_0_r in T.
      assert (0 <= price * (row hard - row soft)) by (apply Rmult_le_pos; lra). lra.
    + unfold over in T. rewrite Rmax_right in T by lra. rewrite A in T.
      set (v := row soft - upper) in *.
      assert (0 <= (price - 2 * (gamma * v)) * (price - 2 * (gamma * v))) by apply Rle_0_sqr. nra.
Qed.

(* a cap: price at most rho for each unit of violation *)
Theorem L9_cap : price <= rho -> forall f, inside f -> half hard <= half f + rho * over f.
Proof.
  intros Hr f Hf. pose proof (hard_least f Hf) as L.
  assert (price * row hard = price * upper) by lra.
  assert (0 <= over f) by apply Rmax_l. assert (row f - upper <= over f) by apply Rmax_r.
  assert (price * (row f - upper) <= price * over f) by (apply Rmult_le_compat_l; lra).
  assert (price * over f <= rho * over f) by (apply Rmult_le_compat_r; lra). lra.
Qed.
End L9.
