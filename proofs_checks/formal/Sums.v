(* Finite sums of reals, and a first-order condition without calculus: what every other file stands on. *)
Require Import Reals Lra Lia Psatz Arith.
Open Scope R_scope.

Fixpoint sum (n : nat) (f : nat -> R) : R :=
  match n with O => 0 | S m => sum m f + f m end.

(* y with entry k moved by d *)
Definition upd (y : nat -> R) (k : nat) (d : R) : nat -> R :=
  fun i => if Nat.eqb i k then y i + d else y i.

Lemma sum_ext n f h : (forall i, (i < n)%nat -> f i = h i) -> sum n f = sum n h.
Proof.
  induction n as [|n IH]; simpl; intros H; [reflexivity|].
  rewrite IH, H by (intros; try apply H; lia). reflexivity.
Qed.

Lemma sum_le n f h : (forall i, (i < n)%nat -> f i <= h i) -> sum n f <= sum n h.
Proof.
  induction n as [|n IH]; simpl; intros H; [lra|].
  assert (sum n f <= sum n h) by (apply IH; intros; apply H; lia).
  assert (f n <= h n) by (apply H; lia). lra.
Qed.

Lemma sum_zero n : sum n (fun _ => 0) = 0.
Proof. induction n as [|n IH]; simpl; [reflexivity|rewrite IH; ring]. Qed.

Lemma sum_const n c : sum n (fun _ => c) = INR n * c.
Proof. induction n as [|n IH]; [simpl; ring|]. rewrite S_INR. simpl. rewrite IH. ring. Qed.

Lemma sum_plus n f h : sum n (fun i => f i + h i) = sum n f + sum n h.
Proof. induction n as [|n IH]; simpl; [ring|rewrite IH; ring]. Qed.

Lemma sum_minus n f h : sum n (fun i => f i - h i) = sum n f - sum n h.
Proof. induction n as [|n IH]; simpl; [ring|rewrite IH; ring]. Qed.

Lemma sum_scal n c f : sum n (fun i => c * f i) = c * sum n f.
Proof. induction n as [|n IH]; simpl; [ring|rewrite IH; ring]. Qed.

Lemma sum_ge0 n f : (forall i, (i < n)%nat -> 0 <= f i) -> 0 <= sum n f.
Proof. intros H. rewrite <- (sum_zero n). apply sum_le, H. Qed.

Lemma sum_abs n f : Rabs (sum n f) <= sum n (fun i => Rabs (f i)).
Proof.
  induction n as [|m IH]; simpl; [rewrite Rabs_R0; lra|].
  eapply Rle_trans; [apply Rabs_triang|]. lra.
Qed.

(* one term is at most a sum of terms that are none below 0 *)
Lemma sum_term n f k : (forall i, (i < n)%nat -> 0 <= f i) -> (k < n)%nat -> f k <= sum n f.
Proof.
  induction n as [|n IH]; simpl; intros H Hk; [lia|].
  pose proof (H n ltac:(lia)). assert (0 <= sum n f) by (apply sum_ge0; intros; apply H; lia).
  destruct (Nat.eq_dec k n) as [->|ne]; [lra|].
  assert (f k <= sum n f) by (apply IH; [intros; apply H|]; lia). lra.
Qed.

Lemma sum_upd n (w : nat -> R -> R) y k d : (k < n)%nat ->
  sum n (fun i => w i (upd y k d i)) = sum n (fun i => w i (y i)) + (w k (y k + d) - w k (y k)).
Proof.
  induction n as [|n IH]; simpl; intros H; [lia|].
  destruct (Nat.eq_dec k n) as [->|ne].
  - rewrite (sum_ext n _ (fun i => w i (y i))).
    + unfold upd. rewrite Nat.eqb_refl. ring.
    + intros i Hi. unfold upd. destruct (Nat.eqb_spec i n); [lia|reflexivity].
  - rewrite IH by lia. unfold upd at 1. destruct (Nat.eqb_spec n k); [lia|]. ring.
Qed.

(* entry k replaced *)
Lemma sum_replace n f k a : (k < n)%nat -> sum n (fun i => if Nat.eqb i k then a else f i) = sum n f + (a - f k).
Proof.
  induction n as [|n IH]; simpl; intros H; [lia|].
  destruct (Nat.eq_dec k n) as [->|ne].
  - rewrite (sum_ext n _ f).
    + rewrite Nat.eqb_refl. ring.
    + intros i Hi. destruct (Nat.eqb_spec i n); [lia|reflexivity].
  - rewrite IH by lia. destruct (Nat.eqb_spec n k); [lia|]. ring.
Qed.

Lemma sum_two n f a b : (forall i, (i < n)%nat -> 0 <= f i) -> (a < n)%nat -> (b < n)%nat -> a <> b -> f a + f b <= sum n f.
Proof.
  intros H Ha Hb ne.
  assert (f b <= sum n (fun i => if Nat.eqb i a then 0 else f i)).
  { replace (f b) with (if Nat.eqb b a then 0 else f b) by (destruct (Nat.eqb_spec b a); congruence).
    apply (sum_term n (fun i => if Nat.eqb i a then 0 else f i)); [|exact Hb].
    intros i Hi. destruct (Nat.eqb i a); [lra|apply H; exact Hi]. }
  rewrite sum_replace in H0 by exact Ha. lra.
Qed.

Lemma sum_swap n m (f : nat -> nat -> R) : sum n (fun i => sum m (fun j => f i j)) = sum m (fun j => sum n (fun i => f i j)).
Proof.
  induction n as [|n IH]; simpl; [symmetry; apply sum_zero|]. rewrite IH, <- sum_plus. reflexivity.
Qed.

(* exactly one of the groups is that of the sample *)
Lemma sum_one K g x : (g < K)%nat -> sum K (fun k => if Nat.eqb g k then x else 0) = x.
Proof.
  intros H. rewrite (sum_ext K _ (fun k => if Nat.eqb k g then x else 0)) by (intros; rewrite Nat.eqb_sym; reflexivity).
  rewrite (sum_replace K (fun _ => 0)) by exact H. rewrite sum_zero. ring.
Qed.

Lemma pos_square x d : Rmax 0 (x + d) * Rmax 0 (x + d) <= Rmax 0 x * Rmax 0 x + 2 * Rmax 0 x * d + d * d.
Proof. unfold Rmax. destruct (Rle_dec 0 (x + d)), (Rle_dec 0 x); nra. Qed.

(* 0 <= - p d + q d^2 for all small d > 0 *)
Lemma first_order p q d0 : 0 < d0 -> 0 < q ->
  (forall d, 0 < d <= d0 -> 0 <= - p * d + q * (d * d)) -> p <= 0.
Proof.
  intros Hd Hq H. apply Rnot_lt_le. intro Hp.
  set (d := Rmin d0 (p / (2 * q))).
  assert (Hpq : 0 < p / (2 * q)) by (apply Rdiv_lt_0_compat; lra).
  assert (d1 : 0 < d) by (unfold d; apply Rmin_glb_lt; lra).
  assert (d2 : d <= d0) by (unfold d; apply Rmin_l).
  assert (d3 : d <= p / (2 * q)) by (unfold d; apply Rmin_r).
  assert (d4 : q * d <= p / 2).
  { replace (p / 2) with (q * (p / (2 * q))) by (field; lra).
    apply Rmult_le_compat_l; lra. }
  specialize (H d (conj d1 d2)). nra.
Qed.

Lemma le_of_squares x y : 0 <= y -> x * x <= y * y -> x <= y.
Proof. intros. nra. Qed.

Lemma abs_le x b : x <= b -> - x <= b -> Rabs x <= b.
Proof. intros. apply Rabs_le. lra. Qed.
