(* S1, S2 (two groups), S3, S4: the paper's streaming rule. *)
Require Import Reals Lra Lia Psatz Bool Arith.
From Fairopt Require Import Sums Groups.
Open Scope R_scope.

(* S1: p_{t+1} = max(0, p_t + eta_t G_t), eta not increasing: the sum of G_t is at most p_{T+1} / eta_T (batches 0 .. T) *)
Section S1.
Variables (G eta p : nat -> R).
Hypothesis eta_pos : forall t, 0 < eta t.
Hypothesis eta_falls : forall t, eta (S t) <= eta t.
Hypothesis start : p O = 0.
Hypothesis price_rule : forall t, p (S t) = Rmax 0 (p t + eta t * G t).

Lemma price_ge0 t : 0 <= p t.
Proof. destruct t; [rewrite start; lra|rewrite price_rule; apply Rmax_l]. Qed.

Theorem S1 T : sum (S T) G <= p (S T) / eta T.
Proof.
  assert (step : forall t, G t <= (p (S t) - p t) / eta t).
  { intros t. apply Rmult_le_reg_r with (eta t); [apply eta_pos|].
    unfold Rdiv. rewrite Rmult_assoc, Rinv_l by (pose proof (eta_pos t); lra).
    pose proof (Rmax_r 0 (p t + eta t * G t)). rewrite <- price_rule in H. lra. }
  induction T as [|T IH].
  - simpl. specialize (step O). rewrite start in step. replace (p 1%nat - 0) with (p 1%nat) in step by ring. lra.
  - change (sum (S (S T)) G) with (sum (S T) G + G (S T)).
    specialize (step (S T)).
    assert (p (S T) / eta T <= p (S T) / eta (S T)).
    { apply Rmult_le_compat_l; [apply price_ge0|]. apply Rinv_le_contravar; [apply eta_pos|apply eta_falls]. }
    assert (E : (p (S (S T)) - p (S T)) / eta (S T) = p (S (S T)) / eta (S T) - p (S T) / eta (S T)).
    { field. pose proof (eta_pos (S T)). lra. }
    lra.
Qed.
End S1.

(* S2: one batch of n samples, both groups present; the gap that a price p leaves *)
Section S2.
Variables (lb ub p : R) (n : nat) (g : nat -> bool) (z y : nat -> R).
Hypothesis box : lb <= ub.
Hypothesis p_pos : 0 <= p.
Hypothesis z_in : forall i, (i < n)%nat -> lb <= z i <= ub.
Hypothesis y_in : forall i, (i < n)%nat -> lb <= y i <= ub.
Definition c (b : bool) : R := INR (cnt n g b).
Hypothesis both : forall b, (1 <= cnt n g b)%nat.
Definition mean (f : nat -> R) (b : bool) : R := gsum n g b f / c b.
Definition gap (f : nat -> R) (b : bool) : R := mean f b - mean f (negb b).
Definition cost (f : nat -> R) : R :=
  sum n (fun i => (f i - z i) * (f i - z i)) + p * INR n * Rabs (gap f false).
Hypothesis least : forall f, (forall i, (i < n)%nat -> lb <= f i <= ub) -> cost y <= cost f.

Lemma c_pos b : 0 < c b. Proof. apply lt_0_INR. pose proof (both b). lia. Qed.

Lemma abs_gap f b : Rabs (gap f false) = Rabs (gap f b).
Proof. destruct b; [|reflexivity]. unfold gap. simpl. apply Rabs_minus_sym. Qed.

Lemma mean_upd k d b : (k < n)%nat -> mean (upd y k d) b = mean y b + (if eqb (g k) b then d / c b else 0).
Proof.
  intros Hk. pose proof (c_pos b). unfold mean, gsum.
  rewrite (sum_upd n (fun i v => if eqb (g i) b then v else 0) y k d Hk).
  destruct (eqb (g k) b); field; lra.
Qed.

Definition s (k : nat) (b : bool) : R := if eqb (g k) b then -1 else 1.

(* either at the bound that shrinks the gap, or shifted in full *)
Lemma shifted b k : 0 < gap y b -> (k < n)%nat ->
  y k = (if eqb (g k) b then lb else ub) \/ p * INR n / (2 * c (g k)) <= s k b * (y k - z k).
Proof.
  intros HG Hk. pose proof (y_in k Hk). pose proof (z_in k Hk). pose proof (c_pos (g k)) as Hc.
  set (room := if eqb (g k) b then y k - lb else ub - y k).
  assert (0 <= room) by (unfold room; destruct (eqb (g k) b); lra).
  destruct (Req_dec room 0) as [E|E]; [left; unfold room in E; destruct (eqb (g k) b); lra|right].
  assert (F : p * INR n / c (g k) - 2 * (s k b * (y k - z k)) <= 0).
  { apply (first_order _ 1 (Rmin room (gap y b * c (g k)))); [apply Rmin_glb_lt; [lra|apply Rmult_lt_0_compat; lra]|lra|].
    intros d [Hd0 Hd].
    assert (d1 : d <= room) by (eapply Rle_trans; [exact Hd|apply Rmin_l]).
    assert (d2 : d <= gap y b * c (g k)) by (eapply Rle_trans; [exact Hd|apply Rmin_r]).
    assert (inb : forall i, (i < n)%nat -> lb <= upd y k (s k b * d) i <= ub).
    { intros i Hi. unfold upd. destruct (Nat.eqb_spec i k) as [->|]; [|apply y_in; exact Hi].
      unfold s, room in *. destruct (eqb (g k) b); lra. }
    pose proof (least _ inb) as O. unfold cost in O.
    rewrite (abs_gap y b), (abs_gap (upd y k (s k b * d)) b) in O.
    assert (E2 : gap (upd y k (s k b * d)) b = gap y b - d / c (g k)).
    { unfold gap. rewrite !mean_upd by assumption. unfold s. pose proof (c_pos false). pose proof (c_pos true).
      destruct b, (g k); simpl eqb; cbn [negb]; cbv iota; field; lra. }
    assert (d / c (g k) <= gap y b).
    { apply Rmult_le_reg_r with (c (g k)); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. lra. }
    rewrite E2 in O. rewrite (Rabs_right (gap y b)), (Rabs_right (gap y b - d / c (g k))) in O by lra.
    rewrite (sum_upd n (fun i v => (v - z i) * (v - z i)) y k (s k b * d) Hk) in O.
    assert (Hs : s k b * s k b = 1) by (unfold s; destruct (eqb (g k) b); ring).
    replace (- (p * INR n / c (g k) - 2 * (s k b * (y k - z k))) * d + 1 * (d * d)) with
      ((y k + s k b * d - z k) * (y k + s k b * d - z k) - (y k - z k) * (y k - z k)
       + p * INR n * (gap y b - d / c (g k)) - p * INR n * gap y b + (1 - s k b * s k b) * (d * d))
      by (field; lra).
    rewrite Hs. lra. }
  apply Rmult_le_reg_r with 2; [lra|].
  replace (p * INR n / (2 * c (g k)) * 2) with (p * INR n / c (g k)) by (field; lra). lra.
Qed.

Lemma mean_le b v : (forall k, (k < n)%nat -> g k = b -> y k <= v) -> mean y b <= v.
Proof.
  intros H. pose proof (c_pos b). apply Rmult_le_reg_r with (c b); [lra|].
  unfold mean, Rdiv. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra. unfold c.
  rewrite Rmult_comm, <- (gsum_const n g b (fun _ => v) v) by reflexivity.
  apply sum_le. intros i Hi. destruct (eqb (g i) b) eqn:E; [apply H; [exact Hi|apply eqb_prop; exact E]|lra].
Qed.
Lemma mean_ge b v : (forall k, (k < n)%nat -> g k = b -> v <= y k) -> v <= mean y b.
Proof.
  intros H. pose proof (c_pos b). apply Rmult_le_reg_r with (c b); [lra|].
  unfold mean, Rdiv. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra. unfold c.
  rewrite Rmult_comm, <- (gsum_const n g b (fun _ => v) v) by reflexivity.
  apply sum_le. intros i Hi. destruct (eqb (g i) b) eqn:E; [apply H; [exact Hi|apply eqb_prop; exact E]|lra].
Qed.

Lemma S2_signed b : gap y b <= Rmax 0 (ub - lb - 2 * p).
Proof.
  destruct (Rle_lt_dec (gap y b) 0) as [L|L]; [eapply Rle_trans; [exact L|apply Rmax_l]|].
  eapply Rle_trans; [|apply Rmax_r].
  pose proof (c_pos b) as H0. pose proof (c_pos (negb b)) as H1.
  set (t := p * INR n / (2 * c b)). set (u := p * INR n / (2 * c (negb b))).
  pose proof box as HB.
  assert (lo : forall k, (k < n)%nat -> lb <= y k) by (intros; apply y_in; assumption).
  assert (hi : forall k, (k < n)%nat -> y k <= ub) by (intros; apply y_in; assumption).
  assert (A : mean y b <= ub - t).
  { destruct (Rle_lt_dec t (ub - lb)).
    - apply mean_le. intros k Hk E. destruct (shifted b k L Hk) as [F|F]; rewrite E in F.
      + rewrite eqb_reflx in F. lra.
      + fold t in F. unfold s in F. rewrite E, eqb_reflx in F. pose proof (z_in k Hk). lra.
    - exfalso. assert (mean y b <= lb).
      { apply mean_le. intros k Hk E. destruct (shifted b k L Hk) as [F|F]; rewrite E in F.
        - rewrite eqb_reflx in F. lra.
        - fold t in F. unfold s in F. rewrite E, eqb_reflx in F. pose proof (z_in k Hk). pose proof (lo k Hk). lra. }
      assert (lb <= mean y (negb b)) by (apply mean_ge; intros; apply lo; assumption). unfold gap in L. lra. }
  assert (B : lb + u <= mean y (negb b)).
  { destruct (Rle_lt_dec u (ub - lb)).
    - apply mean_ge. intros k Hk E. destruct (shifted b k L Hk) as [F|F]; rewrite E in F.
      + destruct b; simpl in F; lra.
      + fold u in F. unfold s in F. rewrite E in F. pose proof (z_in k Hk). destruct b; simpl in F; lra.
    - exfalso. assert (ub <= mean y (negb b)).
      { apply mean_ge. intros k Hk E. destruct (shifted b k L Hk) as [F|F]; rewrite E in F.
        - destruct b; simpl in F; lra.
        - fold u in F. unfold s in F. rewrite E in F. pose proof (z_in k Hk). pose proof (hi k Hk). destruct b; simpl in F; lra. }
      assert (mean y b <= ub) by (apply mean_le; intros; apply hi; assumption). unfold gap in L. lra. }
  assert (N : INR n = c b + c (negb b)).
  { unfold c. rewrite <- plus_INR. f_equal. pose proof (counts g n). destruct b; cbn [negb]; lia. }
  assert (2 * p <= t + u).
  { unfold t, u. rewrite N. set (x := c b) in *. set (w := c (negb b)) in *.
    replace (p * (x + w) / (2 * x) + p * (x + w) / (2 * w)) with (p * ((x + w) * (x + w)) / (2 * x * w)) by (field; repeat split; lra).
    apply Rmult_le_reg_r with (2 * x * w); [apply Rmult_lt_0_compat; lra|].
    replace (p * ((x + w) * (x + w)) / (2 * x * w) * (2 * x * w)) with (p * ((x + w) * (x + w))) by (field; lra).
    assert (0 <= p * ((x - w) * (x - w))) by (apply Rmult_le_pos; [lra|apply Rle_0_sqr]).
    replace (2 * p * (2 * x * w)) with (p * ((x + w) * (x + w)) - p * ((x - w) * (x - w))) by ring. lra. }
  unfold gap. lra.
Qed.

Theorem S2 : Rabs (mean y false - mean y true) <= Rmax 0 (ub - lb - 2 * p).
Proof.
  pose proof (S2_signed false) as H. pose proof (S2_signed true) as H'. unfold gap in *. cbn [negb] in *.
  apply Rabs_le. lra.
Qed.
End S2.

(* one step keeps the price at most (R - eps) m, for every m that is at least 1/2 and at least eta n *)
Lemma price_step R eps p gap eta n m : 0 <= eps <= R -> 0 <= p -> 0 <= eta * n -> / 2 <= m -> eta * n <= m ->
  p <= (R - eps) * m -> gap <= Rmax 0 (R - 2 * p) -> Rmax 0 (p + eta * n * (gap - eps)) <= (R - eps) * m.
Proof.
  intros He Hp He' M1 M2 Hle Hg. set (k := eta * n) in *.
  apply Rmax_lub; [apply Rmult_le_pos; lra|].
  destruct (Rle_lt_dec gap eps) as [G|G].
  - assert (0 <= k * (eps - gap)) by (apply Rmult_le_pos; lra). lra.
  - assert (R - 2 * p > eps /\ gap <= R - 2 * p).
    { revert Hg. unfold Rmax. destruct (Rle_dec 0 (R - 2 * p)); lra. }
    assert (k * (gap - eps) <= k * (R - 2 * p - eps)) by (apply Rmult_le_compat_l; lra).
    assert (p + k * (R - 2 * p - eps) <= (R - eps) * m); [|lra].
    (* linear in p on [0, (R - eps)/2] *)
    assert (k * (R - eps - 2 * p) <= m * (R - eps - 2 * p)) by (apply Rmult_le_compat_r; lra).
    assert (p <= 2 * m * p) by nra. nra.
Qed.

(* the whole stream; a batch in which a group is absent has gap 0 *)
Section Stream.
Variables (lb ub eps eta_0 n_max : R) (n : nat -> nat) (g : nat -> nat -> bool) (z y : nat -> nat -> R) (p : nat -> R).
Definition both_there (t : nat) : bool := (1 <=? cnt (n t) (g t) false)%nat && (1 <=? cnt (n t) (g t) true)%nat.
Definition batch_gap (t : nat) (f : nat -> R) : R := if both_there t then Rabs (gap (n t) (g t) f false) else 0.
Definition eta (t : nat) : R := eta_0 / sqrt (INR (S t)).
Definition square (t : nat) (f h : nat -> R) : R := sum (n t) (fun i => (f i - h i) * (f i - h i)).
Hypothesis eps_in : 0 <= eps <= ub - lb.
Hypothesis eta_0_pos : 0 < eta_0.
Hypothesis some : forall t, 1 <= INR (n t) <= n_max.
Hypothesis z_in_box : forall t i, (i < n t)%nat -> lb <= z t i <= ub.
Hypothesis y_in_box : forall t i, (i < n t)%nat -> lb <= y t i <= ub.
Hypothesis y_least : forall t f, (forall i, (i < n t)%nat -> lb <= f i <= ub) ->
  square t (y t) (z t) + p t * INR (n t) * batch_gap t (y t) <= square t f (z t) + p t * INR (n t) * batch_gap t f.
Hypothesis p_start : p O = 0.
Hypothesis p_rule : forall t, p (S t) = Rmax 0 (p t + eta t * (INR (n t) * (batch_gap t (y t) - eps))).

Lemma p_ge0 t : 0 <= p t.
Proof. destruct t; [rewrite p_start; lra|rewrite p_rule; apply Rmax_l]. Qed.

Lemma root_ge1 t : 1 <= sqrt (INR (S t)).
Proof.
  rewrite <- sqrt_1. apply sqrt_le_1_alt. rewrite S_INR. pose proof (pos_INR t). lra.
Qed.

Lemma eta_bounds t : 0 < eta t <= eta_0.
Proof.
  unfold eta. pose proof (root_ge1 t). split; [apply Rdiv_lt_0_compat; lra|].
  apply Rmult_le_reg_r with (sqrt (INR (S t))); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. nra.
Qed.

(* S2 in the stream: the gap that the price leaves *)
Theorem S2_gap t : batch_gap t (y t) <= Rmax 0 (ub - lb - 2 * p t).
Proof.
  unfold batch_gap. destruct (both_there t) eqn:E; [|apply Rmax_l].
  unfold both_there in E. apply andb_prop in E. destruct E as [E0 E1].
  apply Nat.leb_le in E0. apply Nat.leb_le in E1.
  apply (S2 lb ub (p t) (n t) (g t) (z t) (y t)).
  - lra.
  - apply p_ge0.
  - apply z_in_box.
  - apply y_in_box.
  - intros b. destruct b; assumption.
  - intros f Hf. pose proof (y_least t f Hf) as L. unfold square, batch_gap, both_there in L.
    rewrite (proj2 (Nat.leb_le _ _) E0), (proj2 (Nat.leb_le _ _) E1) in L. exact L.
Qed.

Definition price_bound : R := (ub - lb - eps) * Rmax (/ 2) (eta_0 * n_max).

Theorem S2_price t : p t <= price_bound.
Proof.
  pose proof (Rmax_l (/ 2) (eta_0 * n_max)) as M1. pose proof (Rmax_r (/ 2) (eta_0 * n_max)) as M2. unfold price_bound.
  induction t as [|t IH]; [rewrite p_start; apply Rmult_le_pos; lra|].
  rewrite p_rule. rewrite <- Rmult_assoc. pose proof (eta_bounds t) as He. pose proof (some t) as Hn.
  apply price_step; try assumption; try lra.
  - apply p_ge0.
  - apply Rmult_le_pos; lra.
  - eapply Rle_trans; [|exact M2]. apply Rmult_le_compat; lra.
  - apply S2_gap.
Qed.

(* S3: the mean of the gaps of the batches 0 .. T, weighted by their samples *)
Definition samples (T : nat) : R := sum (S T) (fun t => INR (n t)).

Theorem S3 T : sum (S T) (fun t => INR (n t) * batch_gap t (y t)) / samples T
  <= eps + (ub - lb - eps) * Rmax (1 / (2 * eta_0)) n_max * sqrt (INR (S T)) / samples T.
Proof.
  assert (N : 0 < samples T).
  { unfold samples. simpl. pose proof (some T).
    assert (0 <= sum T (fun t => INR (n t))) by (apply sum_ge0; intros; apply pos_INR). lra. }
  assert (falls : forall t, eta (S t) <= eta t).
  { intros t. unfold eta. apply Rmult_le_compat_l; [lra|]. apply Rinv_le_contravar.
    - pose proof (root_ge1 t). lra.
    - apply sqrt_le_1_alt. apply le_INR. lia. }
  pose proof (S1 (fun t => INR (n t) * (batch_gap t (y t) - eps)) eta p (fun t => proj1 (eta_bounds t)) falls p_start p_rule T) as H.
  rewrite (sum_ext (S T) _ (fun t => INR (n t) * batch_gap t (y t) - eps * INR (n t))) in H by (intros; ring).
  rewrite sum_minus, sum_scal in H. fold (samples T) in H.
  pose proof (root_ge1 T) as Hr. set (r := sqrt (INR (S T))) in *.
  assert (K : p (S T) / eta T <= (ub - lb - eps) * Rmax (1 / (2 * eta_0)) n_max * r).
  { replace (p (S T) / eta T) with (p (S T) * (r / eta_0)) by (unfold eta; fold r; field; lra).
    eapply Rle_trans; [apply Rmult_le_compat_r; [apply Rlt_le, Rdiv_lt_0_compat; lra|apply S2_price]|].
    unfold price_bound. right.
    replace (Rmax (/ 2) (eta_0 * n_max)) with (eta_0 * Rmax (1 / (2 * eta_0)) n_max).
    - field. lra.
    - rewrite <- RmaxRmult by lra. f_equal. field. lra. }
  apply Rmult_le_reg_r with (samples T); [exact N|].
  replace ((eps + (ub - lb - eps) * Rmax (1 / (2 * eta_0)) n_max * r / samples T) * samples T)
    with (eps * samples T + (ub - lb - eps) * Rmax (1 / (2 * eta_0)) n_max * r) by (field; lra).
  unfold Rdiv at 1. rewrite Rmult_assoc, Rinv_l by lra. lra.
Qed.
End Stream.

(* S4: any convex gap (so any numbers of groups and attributes), any comparator u that is fair in every batch *)
Section S4.
Variables (lb ub eps P : R) (n : nat -> nat) (gap_of : nat -> (nat -> R) -> R) (z y u : nat -> nat -> R) (eta p : nat -> R).
Definition sq (t : nat) (f h : nat -> R) : R := sum (n t) (fun i => (f i - h i) * (f i - h i)).
Definition G (t : nat) : R := INR (n t) * (gap_of t (y t) - eps).
Hypothesis convex : forall t f h s, 0 <= s <= 1 ->
  gap_of t (fun i => f i + s * (h i - f i)) <= gap_of t f + s * (gap_of t h - gap_of t f).
Hypothesis y_in_box : forall t i, (i < n t)%nat -> lb <= y t i <= ub.
Hypothesis u_in_box : forall t i, (i < n t)%nat -> lb <= u t i <= ub.
Hypothesis u_fair : forall t, gap_of t (u t) <= eps.
Hypothesis y_least : forall t f, (forall i, (i < n t)%nat -> lb <= f i <= ub) ->
  sq t (y t) (z t) + p t * INR (n t) * gap_of t (y t) <= sq t f (z t) + p t * INR (n t) * gap_of t f.
Hypothesis eta_pos : forall t, 0 < eta t.
Hypothesis eta_falls : forall t, eta (S t) <= eta t.
Hypothesis p_start : p O = 0.
Hypothesis p_rule : forall t, p (S t) = Rmax 0 (p t + eta t * G t).
Hypothesis p_bounded : forall t, p t <= P.

Lemma p_pos t : 0 <= p t.
Proof. destruct t; [rewrite p_start; lra|rewrite p_rule; apply Rmax_l]. Qed.

Lemma three_points t : sq t (y t) (z t) + p t * INR (n t) * gap_of t (y t) + sq t (y t) (u t)
  <= sq t (u t) (z t) + p t * INR (n t) * gap_of t (u t).
Proof.
  set (w := p t * INR (n t)). set (inner := sum (n t) (fun i => (y t i - z t i) * (u t i - y t i))).
  assert (W : 0 <= w) by (apply Rmult_le_pos; [apply p_pos|apply pos_INR]).
  assert (Q : 0 <= sq t (y t) (u t)) by (apply sum_ge0; intros; apply Rle_0_sqr).
  assert (F : - (2 * inner + w * (gap_of t (u t) - gap_of t (y t))) <= 0).
  { apply (first_order _ (sq t (y t) (u t) + 1) 1); [lra|lra|].
    intros s [S0 S1].
    assert (inb : forall i, (i < n t)%nat -> lb <= y t i + s * (u t i - y t i) <= ub).
    { intros i Hi. pose proof (y_in_box t i Hi). pose proof (u_in_box t i Hi). split; nra. }
    pose proof (y_least t _ inb) as L. fold w in L.
    pose proof (convex t (y t) (u t) s ltac:(lra)) as K.
    assert (E : sq t (fun i => y t i + s * (u t i - y t i)) (z t) = sq t (y t) (z t) + 2 * s * inner + s * s * sq t (y t) (u t)).
    { unfold sq, inner. rewrite <- !sum_scal, <- !sum_plus. apply sum_ext. intros; ring. }
    rewrite E in L.
    assert (w * gap_of t (fun i => y t i + s * (u t i - y t i)) <= w * (gap_of t (y t) + s * (gap_of t (u t) - gap_of t (y t))))
      by (apply Rmult_le_compat_l; assumption).
    nra. }
  assert (E : sq t (u t) (z t) = sq t (y t) (z t) + 2 * inner + sq t (y t) (u t)).
  { unfold sq, inner. rewrite <- !sum_scal, <- !sum_plus. apply sum_ext. intros; ring. }
  rewrite E. lra.
Qed.

Theorem S4 T : sum (S T) (fun t => sq t (y t) (z t) - sq t (u t) (z t) + sq t (y t) (u t))
  <= P * P / (2 * eta T) + / 2 * sum (S T) (fun t => eta t * (G t * G t)).
Proof.
  assert (step : forall t, sq t (y t) (z t) - sq t (u t) (z t) + sq t (y t) (u t)
    <= (p t * p t - p (S t) * p (S t)) / (2 * eta t) + / 2 * (eta t * (G t * G t))).
  { intros t. pose proof (three_points t) as H3. pose proof (p_pos t) as Hp. pose proof (pos_INR (n t)) as Hn.
    assert (F : p t * INR (n t) * gap_of t (u t) <= p t * INR (n t) * eps).
    { apply Rmult_le_compat_l; [apply Rmult_le_pos; assumption|apply u_fair]. }
    assert (D : p (S t) * p (S t) <= (p t + eta t * G t) * (p t + eta t * G t)).
    { rewrite p_rule. unfold Rmax. destruct (Rle_dec 0 (p t + eta t * G t)); nra. }
    pose proof (eta_pos t) as He.
    assert (- (p t * G t) <= (p t * p t - p (S t) * p (S t)) / (2 * eta t) + / 2 * (eta t * (G t * G t))).
    { apply Rmult_le_reg_r with (2 * eta t); [lra|].
      replace (((p t * p t - p (S t) * p (S t)) / (2 * eta t) + / 2 * (eta t * (G t * G t))) * (2 * eta t))
        with (p t * p t - p (S t) * p (S t) + eta t * eta t * (G t * G t)) by (field; lra).
      nra. }
    unfold G in *. nra. }
  assert (parts : sum (S T) (fun t => (p t * p t - p (S t) * p (S t)) / (2 * eta t)) <= (P * P - p (S T) * p (S T)) / (2 * eta T)).
  { clear step. induction T as [|T IH].
    - simpl. rewrite Rplus_0_l. apply Rmult_le_compat_r.
      + apply Rlt_le, Rinv_0_lt_compat. pose proof (eta_pos 0). lra.
      + pose proof (p_bounded 0). pose proof (p_pos 0). nra.
    - change (sum (S (S T)) ?f) with (sum (S T) f + f (S T)). cbv beta.
      pose proof (eta_pos T). pose proof (eta_pos (S T)). pose proof (eta_falls T).
      assert (0 <= P * P - p (S T) * p (S T)) by (pose proof (p_bounded (S T)); pose proof (p_pos (S T)); nra).
      assert ((P * P - p (S T) * p (S T)) / (2 * eta T) <= (P * P - p (S T) * p (S T)) / (2 * eta (S T))).
      { apply Rmult_le_compat_l; [assumption|]. apply Rinv_le_contravar; lra. }
      replace ((P * P - p (S (S T)) * p (S (S T))) / (2 * eta (S T)))
        with ((P * P - p (S T) * p (S T)) / (2 * eta (S T)) + (p (S T) * p (S T) - p (S (S T)) * p (S (S T))) / (2 * eta (S T)))
        by (field; lra).
      lra. }
  eapply Rle_trans; [apply sum_le; intros t _; apply step|].
  rewrite sum_plus, sum_scal.
  assert ((P * P - p (S T) * p (S T)) / (2 * eta T) <= P * P / (2 * eta T)).
  { apply Rmult_le_compat_r; [apply Rlt_le, Rinv_0_lt_compat; pose proof (eta_pos T); lra|nra]. }
  lra.
Qed.
End S4.

(* the gap of two groups is convex, as S4 asks *)
Theorem two_groups_convex n g f h s : 0 <= s <= 1 ->
  Rabs (gap n g (fun i => f i + s * (h i - f i)) false)
  <= Rabs (gap n g f false) + s * (Rabs (gap n g h false) - Rabs (gap n g f false)).
Proof.
  intros Hs.
  assert (E : forall b, gsum n g b (fun i => f i + s * (h i - f i)) = (1 - s) * gsum n g b f + s * gsum n g b h).
  { intros b. unfold gsum. rewrite <- !sum_scal, <- sum_plus. apply sum_ext. intros i _. destruct (eqb (g i) b); ring. }
  replace (gap n g (fun i => f i + s * (h i - f i)) false) with ((1 - s) * gap n g f false + s * gap n g h false)
    by (unfold gap, mean; rewrite !E; unfold Rdiv; ring).
  eapply Rle_trans; [apply Rabs_triang|]. rewrite !Rabs_mult, (Rabs_right (1 - s)), (Rabs_right s) by lra. lra.
Qed.
