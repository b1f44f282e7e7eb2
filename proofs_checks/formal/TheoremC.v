(* P4, Theorem C: one attribute of K groups, potential kappa N^{3/2} times the squared distance of the means to {range <= eps}. One step. *)
Require Import Reals Lra Lia Psatz Arith.
From Fairopt Require Import Sums.
Open Scope R_scope.

Section TheoremC.
Variables (lb ub eps kappa before : R) (K n : nat) (g : nat -> nat) (z y : nat -> R) (C0 T0 : nat -> R) (t : R) (top bot : nat).
Definition of_group (k : nat) (f : nat -> R) : R := sum n (fun i => if Nat.eqb (g i) k then f i else 0).
Definition C1 (k : nat) : R := C0 k + of_group k (fun _ => 1).            (* counts after the batch *)
Definition N : R := sum K C1.
Definition M (f : nat -> R) (k : nat) : R := (T0 k + of_group k f) / C1 k.  (* means after it, were it answered by f *)
Definition pos (x : R) : R := Rmax 0 x.
Definition high (f : nat -> R) (s : R) (k : nat) : R := pos (M f k - s - eps).
Definition low (f : nat -> R) (s : R) (k : nat) : R := pos (s - M f k).
Definition distance2 (f : nat -> R) (s : R) : R := sum K (fun k => high f s k * high f s k + low f s k * low f s k).
Definition objective (f : nat -> R) (s : R) : R :=
  / 2 * sum n (fun i => (f i - z i) * (f i - z i)) + kappa * (N * sqrt N) * distance2 f s.

Hypothesis box : lb <= ub.
Hypothesis eps_pos : 0 <= eps.
Hypothesis kappa_pos : 0 < kappa.
Hypothesis in_groups : forall i, (i < n)%nat -> (g i < K)%nat.
Hypothesis z_in : forall i, (i < n)%nat -> lb <= z i <= ub.
Hypothesis y_in : forall i, (i < n)%nat -> lb <= y i <= ub.
Hypothesis past : forall k, (k < K)%nat -> 0 <= C0 k /\ C0 k * lb <= T0 k <= C0 k * ub.
Hypothesis present : forall k, (k < K)%nat -> 0 < C1 k.
(* the distance is a minimum over windows [s, s + eps]: the rule minimises over scores and windows together *)
Hypothesis least : forall f s, (forall i, (i < n)%nat -> lb <= f i <= ub) -> objective y t <= objective f s.
Hypothesis top_is : (top < K)%nat /\ forall k, (k < K)%nat -> M y k <= M y top.
Hypothesis bot_is : (bot < K)%nat /\ forall k, (k < K)%nat -> M y bot <= M y k.
Hypothesis gap_before : forall a b, (a < K)%nat -> (b < K)%nat -> 0 < C0 a -> 0 < C0 b -> T0 a / C0 a - T0 b / C0 b <= before.

Lemma N_pos : 0 < N.
Proof.
  destruct top_is as [H _]. apply Rlt_le_trans with (C1 top); [apply present; exact H|].
  apply sum_term; [|exact H]. intros k Hk. apply Rlt_le, present, Hk.
Qed.

Lemma C1_le_N k : (k < K)%nat -> C1 k <= N.
Proof. intros H. apply sum_term; [|exact H]. intros j Hj. apply Rlt_le, present, Hj. Qed.

Lemma A_pos : 0 < kappa * (N * sqrt N).
Proof. pose proof N_pos. pose proof (sqrt_lt_R0 N H). apply Rmult_lt_0_compat; [|apply Rmult_lt_0_compat]; lra. Qed.

(* the window is optimal: what sticks out above equals what sticks out below *)
Lemma balance : sum K (high y t) = sum K (low y t).
Proof.
  set (e := sum K (high y t) - sum K (low y t)).
  assert (F : forall s, s = 1 \/ s = -1 -> s * e <= 0).
  { intros s Hs. enough (2 * (s * e) <= 0) by lra.
    apply (first_order _ (2 * INR K) 1); [lra| |].
    - destruct top_is as [H _]. assert (0 < INR K) by (apply lt_0_INR; lia). lra.
    - intros d [D0 D1]. pose proof (least y (t + s * d) y_in) as L. unfold objective in L. pose proof A_pos as A.
      assert (distance2 y t <= distance2 y (t + s * d)).
      { apply Rmult_le_reg_l with (kappa * (N * sqrt N)); [exact A|lra]. }
      assert (distance2 y (t + s * d) <= distance2 y t - 2 * s * d * e + 2 * INR K * (d * d)); [|lra].
      unfold distance2, e.
      replace (2 * INR K * (d * d)) with (sum K (fun _ => 2 * (d * d))) by (rewrite sum_const; ring).
      rewrite <- sum_minus, <- !sum_scal, <- sum_minus, <- sum_plus. apply sum_le. intros k _. unfold high, low, pos.
      pose proof (pos_square (M y k - t - eps) (- (s * d))) as P. pose proof (pos_square (t - M y k) (s * d)) as Q.
      replace (M y k - t - eps + - (s * d)) with (M y k - (t + s * d) - eps) in P by ring.
      replace (t - M y k + s * d) with (t + s * d - M y k) in Q by ring.
      assert (s * d * (s * d) = d * d) by (destruct Hs as [->| ->]; ring). lra. }
  pose proof (F 1 (or_introl eq_refl)). pose proof (F (-1) (or_intror eq_refl)). unfold e in *. lra.
Qed.

Lemma M_upd i d k : (i < n)%nat -> (k < K)%nat -> M (upd y i d) k = upd (M y) (g i) (d / C1 (g i)) k.
Proof.
  intros Hi Hk. pose proof (present k Hk). unfold M, of_group.
  rewrite (sum_upd n (fun j v => if Nat.eqb (g j) k then v else 0) y i d Hi). unfold upd.
  destruct (Nat.eqb_spec (g i) k) as [<-|ne].
  - rewrite Nat.eqb_refl. field. lra.
  - destruct (Nat.eqb_spec k (g i)); [congruence|]. field. lra.
Qed.

(* what moving sample i by d does to the distance, at most *)
Lemma distance_upd i d : (i < n)%nat -> distance2 (upd y i d) t
  <= distance2 y t + 2 * (high y t (g i) - low y t (g i)) * (d / C1 (g i)) + 2 * (d / C1 (g i) * (d / C1 (g i))).
Proof.
  intros Hi. pose proof (in_groups i Hi) as Hg. unfold distance2, high, low.
  rewrite (sum_ext K (fun k => pos (M (upd y i d) k - t - eps) * pos (M (upd y i d) k - t - eps)
      + pos (t - M (upd y i d) k) * pos (t - M (upd y i d) k))
    (fun k => (fun (_ : nat) v => pos (v - t - eps) * pos (v - t - eps) + pos (t - v) * pos (t - v)) k (upd (M y) (g i) (d / C1 (g i)) k)))
    by (intros k Hk; rewrite (M_upd i d k Hi Hk); reflexivity).
  rewrite (sum_upd K (fun (_ : nat) v => pos (v - t - eps) * pos (v - t - eps) + pos (t - v) * pos (t - v)) (M y) (g i) _ Hg).
  set (m := M y (g i)). set (x := d / C1 (g i)). unfold pos.
  pose proof (pos_square (m - t - eps) x) as P. pose proof (pos_square (t - m) (- x)) as Q.
  replace (m - t - eps + x) with (m + x - t - eps) in P by ring.
  replace (t - m + - x) with (t - (m + x)) in Q by ring. lra.
Qed.

Definition h : R := (ub - lb) / (2 * kappa * sqrt N).

(* a group that sticks out by more than h: its samples of the batch sit at the bound on the other side *)
Lemma saturated i s r : (i < n)%nat -> s = 1 \/ s = -1 ->
  r = s * (high y t (g i) - low y t (g i)) -> h < r -> y i = if Rle_dec s 0 then ub else lb.
Proof.
  intros Hi Hs Er Hr. pose proof (in_groups i Hi) as Hg. pose proof (y_in i Hi) as Hy. pose proof (z_in i Hi) as Hz.
  pose proof A_pos as A. pose proof N_pos as HN. pose proof (sqrt_lt_R0 N HN) as Hq. pose proof (present _ Hg) as HC.
  set (room := if Rle_dec s 0 then ub - y i else y i - lb).
  assert (Hroom : 0 <= room) by (unfold room; destruct (Rle_dec s 0); lra).
  destruct (Req_dec room 0) as [E|E]; [unfold room in E; destruct (Rle_dec s 0); lra|exfalso].
  set (a := kappa * (N * sqrt N)) in *. set (q := C1 (g i)) in *.
  assert (F : s * (y i - z i) + 2 * a * r / q <= 0).
  { apply (first_order _ (/ 2 + 2 * a / (q * q)) room); [lra| |].
    - assert (0 < 2 * a / (q * q)) by (apply Rdiv_lt_0_compat; nra). lra.
    - intros d [D0 D1].
      assert (inb : forall j, (j < n)%nat -> lb <= upd y i (- s * d) j <= ub).
      { intros j Hj. unfold upd. destruct (Nat.eqb_spec j i) as [->|]; [|apply y_in; exact Hj].
        unfold room in *. destruct (Rle_dec s 0); destruct Hs as [->| ->]; lra. }
      pose proof (least _ t inb) as L. unfold objective in L. fold a in L.
      rewrite (sum_upd n (fun j v => (v - z j) * (v - z j)) y i (- s * d) Hi) in L.
      pose proof (distance_upd i (- s * d) Hi) as Q. fold q in Q.
      assert (a * distance2 (upd y i (- s * d)) t <= a * (distance2 y t + 2 * (high y t (g i) - low y t (g i)) * (- s * d / q)
        + 2 * (- s * d / q * (- s * d / q)))) by (apply Rmult_le_compat_l; [lra|exact Q]).
      replace (- (s * (y i - z i) + 2 * a * r / q) * d + (/ 2 + 2 * a / (q * q)) * (d * d)) with
        (/ 2 * ((y i + - s * d - z i) * (y i + - s * d - z i) - (y i - z i) * (y i - z i))
         + a * (2 * (high y t (g i) - low y t (g i)) * (- s * d / q) + 2 * (- s * d / q * (- s * d / q)))
         + (1 - s * s) * (/ 2 * (d * d) + 2 * a / (q * q) * (d * d)))
        by (rewrite Er; field; lra).
      assert (s * s = 1) by (destruct Hs as [->| ->]; ring). rewrite H0. lra. }
  assert (Hh : ub - lb <= 2 * a * h / q).
  { unfold h, a. pose proof (C1_le_N _ Hg) as HqN. fold q in HqN.
    replace (2 * (kappa * (N * sqrt N)) * ((ub - lb) / (2 * kappa * sqrt N)) / q) with ((ub - lb) * (N / q)) by (field; lra).
    assert (1 <= N / q) by (apply Rmult_le_reg_r with q; [lra|]; unfold Rdiv; rewrite Rmult_assoc, Rinv_l by lra; lra). nra. }
  assert (2 * a * h / q < 2 * a * r / q).
  { unfold Rdiv. apply Rmult_lt_compat_r; [apply Rinv_0_lt_compat; lra|]. apply Rmult_lt_compat_l; lra. }
  assert (- (ub - lb) <= s * (y i - z i)) by (destruct Hs as [->| ->]; lra). lra.
Qed.

Lemma group_constant k v : (forall i, (i < n)%nat -> g i = k -> y i = v) -> of_group k y = of_group k (fun _ => 1) * v.
Proof.
  intros H. unfold of_group. rewrite Rmult_comm, <- sum_scal. apply sum_ext. intros i Hi.
  destruct (Nat.eqb_spec (g i) k) as [E|E]; [rewrite (H i Hi E); ring|ring].
Qed.

Lemma arrived k : 0 <= of_group k (fun _ => 1).
Proof. apply sum_ge0. intros i _. destruct (Nat.eqb (g i) k); lra. Qed.

(* a group pushed to lb: new and at lb, or its mean has not risen; the mirror image at ub *)
Lemma pushed_down k : (k < K)%nat -> (forall i, (i < n)%nat -> g i = k -> y i = lb) ->
  M y k = lb \/ (0 < C0 k /\ M y k <= T0 k / C0 k).
Proof.
  intros Hk H. destruct (past k Hk) as [P [L _]]. pose proof (present k Hk) as Q. pose proof (arrived k) as A.
  unfold M. rewrite (group_constant k lb H). unfold C1 in *. set (x := of_group k (fun _ => 1)) in *.
  destruct (Req_dec (C0 k) 0) as [Z|Z].
  - left. destruct (past k Hk) as [_ [L' U']]. rewrite Z in *. replace (T0 k) with 0 by lra. field. lra.
  - right. split; [lra|]. apply Rmult_le_reg_r with (C0 k * (C0 k + x)); [apply Rmult_lt_0_compat; lra|].
    replace ((T0 k + x * lb) / (C0 k + x) * (C0 k * (C0 k + x))) with (C0 k * T0 k + x * (C0 k * lb)) by (field; lra).
    replace (T0 k / C0 k * (C0 k * (C0 k + x))) with (C0 k * T0 k + x * T0 k) by (field; lra). nra.
Qed.

Lemma pushed_up k : (k < K)%nat -> (forall i, (i < n)%nat -> g i = k -> y i = ub) ->
  M y k = ub \/ (0 < C0 k /\ T0 k / C0 k <= M y k).
Proof.
  intros Hk H. destruct (past k Hk) as [P [_ U]]. pose proof (present k Hk) as Q. pose proof (arrived k) as A.
  unfold M. rewrite (group_constant k ub H). unfold C1 in *. set (x := of_group k (fun _ => 1)) in *.
  destruct (Req_dec (C0 k) 0) as [Z|Z].
  - left. destruct (past k Hk) as [_ [L' U']]. rewrite Z in *. replace (T0 k) with 0 by lra. field. lra.
  - right. split; [lra|]. apply Rmult_le_reg_r with (C0 k * (C0 k + x)); [apply Rmult_lt_0_compat; lra|].
    replace ((T0 k + x * ub) / (C0 k + x) * (C0 k * (C0 k + x))) with (C0 k * T0 k + x * (C0 k * ub)) by (field; lra).
    replace (T0 k / C0 k * (C0 k * (C0 k + x))) with (C0 k * T0 k + x * T0 k) by (field; lra). nra.
Qed.

Lemma M_in k : (k < K)%nat -> lb <= M y k <= ub.
Proof.
  intros Hk. destruct (past k Hk) as [P [L U]]. pose proof (present k Hk) as Q.
  assert (of_group k (fun _ => 1) * lb <= of_group k y <= of_group k (fun _ => 1) * ub) as [B B'].
  { unfold of_group. rewrite !(Rmult_comm (sum n _)), <- !sum_scal.
    split; apply sum_le; intros i Hi; pose proof (y_in i Hi); destruct (Nat.eqb (g i) k); lra. }
  unfold M. split; apply Rmult_le_reg_r with (C1 k); try exact Q; unfold Rdiv; rewrite Rmult_assoc, Rinv_l by lra; unfold C1; lra.
Qed.

(* where one side sticks out by at most h, the other does by at most (K - 1) h *)
Lemma others f c k : (k < K)%nat -> 0 <= h -> f k = 0 -> (forall j, (j < K)%nat -> f j <= h) -> c <= sum K f -> c + h <= INR K * h.
Proof.
  intros Hk Hh Z B L. rewrite <- (sum_const K h).
  pose proof (sum_replace K f k h Hk) as E. rewrite Z in E.
  assert (sum K (fun i => if Nat.eqb i k then h else f i) <= sum K (fun _ => h)).
  { apply sum_le. intros i Hi. destruct (Nat.eqb i k); [lra|apply B; exact Hi]. }
  lra.
Qed.

Theorem P4_C : M y top - M y bot <= Rmax (eps + INR K * (ub - lb) / (2 * kappa * sqrt N)) before.
Proof.
  destruct top_is as [Ht Mt]. destruct bot_is as [Hb Mb].
  pose proof N_pos as HN. pose proof (sqrt_lt_R0 N HN) as Hq.
  assert (Hh : 0 <= h) by (unfold h; apply Rmult_le_pos; [lra|apply Rlt_le, Rinv_0_lt_compat; nra]).
  assert (K1 : 1 <= INR K) by (apply (le_INR 1); lia).
  replace (INR K * (ub - lb) / (2 * kappa * sqrt N)) with (INR K * h) by (unfold h; field; lra).
  assert (Hi : forall k, (k < K)%nat -> 0 <= high y t k) by (intros; apply Rmax_l).
  assert (Lo : forall k, (k < K)%nat -> 0 <= low y t k) by (intros; apply Rmax_l).
  assert (D : M y top - M y bot <= eps + high y t top + low y t bot).
  { pose proof (Rmax_r 0 (M y top - t - eps)). pose proof (Rmax_r 0 (t - M y bot)). unfold high, low, pos. lra. }
  assert (one_side : forall k, high y t k = 0 \/ low y t k = 0).
  { intros k. unfold high, low, pos, Rmax. destruct (Rle_dec 0 (M y k - t - eps)), (Rle_dec 0 (t - M y k)); lra. }
  destruct (Rle_lt_dec (low y t bot) h) as [L|L]; [|destruct (Rle_lt_dec (high y t top) h) as [U|U]].
  - eapply Rle_trans; [|apply Rmax_l]. destruct (one_side top) as [Z|Z]; [rewrite Z in D; nra|].
    assert (high y t top + h <= INR K * h); [|lra].
    apply (others (low y t) _ top); try assumption.
    + intros j Hj. eapply Rle_trans; [|exact L]. unfold low, pos. apply Rle_max_compat_l. pose proof (Mb j Hj). lra.
    + rewrite <- balance. apply sum_term; assumption.
  - eapply Rle_trans; [|apply Rmax_l]. destruct (one_side bot) as [Z|Z]; [|rewrite Z in D; nra].
    assert (low y t bot + h <= INR K * h); [|lra].
    apply (others (high y t) _ bot); try assumption.
    + intros j Hj. eapply Rle_trans; [|exact U]. unfold high, pos. apply Rle_max_compat_l. pose proof (Mt j Hj). lra.
    + rewrite balance. apply sum_term; assumption.
  - assert (Zt : low y t top = 0) by (destruct (one_side top); lra).
    assert (Zb : high y t bot = 0) by (destruct (one_side bot); lra).
    assert (St : forall i, (i < n)%nat -> g i = top -> y i = lb).
    { intros i H E. rewrite (saturated i 1 (high y t top) H (or_introl eq_refl)); [|rewrite E, Zt; ring|exact U].
      destruct (Rle_dec 1 0); lra. }
    assert (Sb : forall i, (i < n)%nat -> g i = bot -> y i = ub).
    { intros i H E. rewrite (saturated i (-1) (low y t bot) H (or_intror eq_refl)); [|rewrite E, Zb; ring|exact L].
      destruct (Rle_dec (-1) 0); lra. }
    pose proof (M_in top Ht). pose proof (M_in bot Hb).
    assert (0 <= INR K * h) by nra.
    destruct (pushed_down top Ht St) as [E|[P1 Q1]]; [eapply Rle_trans; [|apply Rmax_l]; lra|].
    destruct (pushed_up bot Hb Sb) as [E|[P2 Q2]]; [eapply Rle_trans; [|apply Rmax_l]; lra|].
    eapply Rle_trans; [|apply Rmax_r]. pose proof (gap_before top bot Ht Hb P1 P2). lra.
Qed.
End TheoremC.
