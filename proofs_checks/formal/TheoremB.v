(* P2, Theorem B: the implicit pooled rule, two groups: a bound at any time, on every stream, for any batch sizes. *)
Require Import Reals Lra Lia Psatz Bool Arith.
From Fairopt Require Import Sums Groups.
Open Scope R_scope.

(* ---------- counts: how fast the bound may fall ---------- *)
(* pi / sqrt N = max (N0, N1) / (N sqrt N) *)
Definition rate (a b : R) : R := Rmax a b / ((a + b) * sqrt (a + b)).

Lemma pow32 x : 0 < x -> 0 < x * sqrt x /\ (x * sqrt x) * (x * sqrt x) = x * x * x.
Proof.
  intros Hx. pose proof (sqrt_lt_R0 x Hx) as Hs. pose proof (sqrt_sqrt x (Rlt_le _ _ Hx)) as E.
  split; [apply Rmult_lt_0_compat; lra|].
  replace (x * sqrt x * (x * sqrt x)) with (x * x * (sqrt x * sqrt x)) by ring. rewrite E. ring.
Qed.

Lemma rate_sym a b : rate a b = rate b a.
Proof. unfold rate. rewrite Rmax_comm, (Rplus_comm a b). reflexivity. Qed.

(* one more sample in group b *)
Lemma rate_step a b : 1 <= a -> 1 <= b -> (b < a -> b + 1 <= a) ->
  rate a b * (b / (b + 1)) <= rate a (b + 1).
Proof.
  intros Ha Hb Hint. unfold rate.
  set (N := a + b). replace (a + (b + 1)) with (N + 1) by (unfold N; ring).
  assert (HN : 2 <= N) by (unfold N; lra).
  destruct (pow32 N) as [P1 P2]; [lra|]. destruct (pow32 (N + 1)) as [Q1 Q2]; [lra|].
  set (u := N * sqrt N) in *. set (w := (N + 1) * sqrt (N + 1)) in *.
  set (m := Rmax a b). set (m' := Rmax a (b + 1)).
  assert (Hm : 0 <= m) by (unfold m; apply Rle_trans with a; [lra|apply Rmax_l]).
  assert (Hm' : 0 <= m') by (unfold m'; apply Rle_trans with a; [lra|apply Rmax_l]).
  assert (K : m * b * w <= m' * (b + 1) * u).
  { apply le_of_squares; [apply Rmult_le_pos; [apply Rmult_le_pos|]; lra|].
    replace (m * b * w * (m * b * w)) with (m * b * (m * b) * (w * w)) by ring.
    replace (m' * (b + 1) * u * (m' * (b + 1) * u)) with (m' * (b + 1) * (m' * (b + 1)) * (u * u)) by ring.
    rewrite P2, Q2.
    destruct (Rlt_le_dec b a) as [L|L].
    - specialize (Hint L).
      assert (m = a) by (unfold m; apply Rmax_left; lra).
      assert (m' = a) by (unfold m'; apply Rmax_left; lra).
      rewrite H, H0.
      assert (2 * b + 1 <= N) by (unfold N; lra).
      assert (E : b * b * ((N + 1) * (N + 1) * (N + 1)) <= (b + 1) * (b + 1) * (N * N * N)).
      { assert (b * b * (3 * (N * N) + 3 * N + 1) <= (2 * b + 1) * (N * N * N)).
        { assert (b * b * (3 * (N * N)) <= 3 / 2 * b * (N * N * N)).
          { assert (0 <= b * (N * N) * (N - 2 * b)) by (apply Rmult_le_pos; [nra|lra]). nra. }
          assert (b * b * (3 * N + 1) <= 1 / 2 * b * (N * N * N) + N * N * N).
          { assert (b * b <= 1 / 2 * b * N) by nra.
            assert (3 <= N) by lra.
            assert (b * b * (3 * N + 1) <= 1 / 2 * b * N * (3 * N + 1)) by (apply Rmult_le_compat_r; lra).
            assert (1 / 2 * b * N * (3 * N) <= 1 / 2 * b * (N * N * N)).
            { assert (0 <= b * (N * N) * (N - 3)) by (apply Rmult_le_pos; [nra|lra]). nra. }
            assert (1 / 2 * b * N <= N * N * N) by nra. nra. }
          nra. }
        nra. }
      assert (0 <= a * a) by nra. nra.
    - assert (m = b) by (unfold m; apply Rmax_right; lra).
      assert (m' = b + 1) by (unfold m'; apply Rmax_right; lra).
      rewrite H, H0.
      assert (E1 : 0 <= b * (N + 1) <= (b + 1) * N) by (unfold N; split; nra).
      assert (E3 : b * (N + 1) * (b * (N + 1)) * (b * (N + 1)) <= (b + 1) * N * ((b + 1) * N) * ((b + 1) * N)).
      { apply Rmult_le_compat; try lra; [nra|]. apply Rmult_le_compat; lra. }
      set (p := b * (N + 1) * (b * (N + 1)) * (b * (N + 1))) in *.
      assert (0 <= p) by (unfold p; apply Rmult_le_pos; [apply Rmult_le_pos|]; lra).
      replace (b * b * (b * b) * ((N + 1) * (N + 1) * (N + 1))) with (b * p) by (unfold p; ring).
      replace ((b + 1) * (b + 1) * ((b + 1) * (b + 1)) * (N * N * N))
        with ((b + 1) * ((b + 1) * N * ((b + 1) * N) * ((b + 1) * N))) by ring.
      apply Rmult_le_compat; lra. }
  apply Rmult_le_reg_r with (u * w * (b + 1)); [apply Rmult_lt_0_compat; [apply Rmult_lt_0_compat|]; lra|].
  replace (m / u * (b / (b + 1)) * (u * w * (b + 1))) with (m * b * w) by (field; lra).
  replace (m' / w * (u * w * (b + 1))) with (m' * (b + 1) * u) by (field; lra).
  exact K.
Qed.

Lemma rate_many_r a b n : (1 <= a)%nat -> (1 <= b)%nat ->
  rate (INR a) (INR b) * (INR b / INR (b + n)) <= rate (INR a) (INR (b + n)).
Proof.
  intros Ha Hb. apply (le_INR 1) in Ha as Ha'. apply (le_INR 1) in Hb as Hb'. simpl in Ha', Hb'.
  induction n as [|n IH].
  - rewrite Nat.add_0_r. right. field. lra.
  - set (c := (b + n)%nat) in *. replace (b + S n)%nat with (S c) by (unfold c; lia).
    assert (Hc : 1 <= INR c) by (apply (le_INR 1); unfold c; lia).
    rewrite S_INR.
    apply Rle_trans with (rate (INR a) (INR c) * (INR c / (INR c + 1))).
    + replace (rate (INR a) (INR b) * (INR b / (INR c + 1)))
        with (rate (INR a) (INR b) * (INR b / INR c) * (INR c / (INR c + 1))) by (field; lra).
      apply Rmult_le_compat_r; [apply Rlt_le, Rdiv_lt_0_compat; lra|exact IH].
    + apply rate_step; try lra. intros L. apply INR_lt in L. rewrite <- S_INR. apply le_INR. lia.
Qed.

Lemma rate_many a b n m : (1 <= a)%nat -> (1 <= b)%nat ->
  rate (INR a) (INR b) * (INR a / INR (a + n)) * (INR b / INR (b + m)) <= rate (INR (a + n)) (INR (b + m)).
Proof.
  intros Ha Hb.
  apply Rle_trans with (rate (INR (a + n)) (INR b) * (INR b / INR (b + m))).
  - apply Rmult_le_compat_r.
    + apply Rlt_le, Rdiv_lt_0_compat; apply lt_0_INR; lia.
    + rewrite (rate_sym (INR a)), (rate_sym (INR (a + n))). apply rate_many_r; assumption.
  - apply rate_many_r; lia.
Qed.

Lemma rate_pos a b : 0 < a -> 0 < b -> 0 < rate a b.
Proof.
  intros. unfold rate. destruct (pow32 (a + b)) as [P _]; [lra|].
  apply Rdiv_lt_0_compat; [|exact P]. apply Rlt_le_trans with a; [lra|apply Rmax_l].
Qed.

(* ---------- what a saturated batch does ---------- *)
Lemma contraction al be x w W : 0 <= W -> 0 <= al <= 1 -> 0 <= be <= 1 -> x <= W -> w <= W ->
  al * x + be * w - W <= al * be * (x + w - W).
Proof.
  intros HW [A0 A1] [B0 B1] Hx Hw.
  assert (E1 : 0 <= al * (1 - be) * (W - x)) by (apply Rmult_le_pos; [apply Rmult_le_pos|]; lra).
  assert (E2 : 0 <= be * (1 - al) * (W - w)) by (apply Rmult_le_pos; [apply Rmult_le_pos|]; lra).
  assert (E3 : 0 <= W * ((1 - al) * (1 - be))) by (apply Rmult_le_pos; [|apply Rmult_le_pos]; lra).
  nra.
Qed.

(* ---------- the stream and the rule ---------- *)
Section Stream.
Variables (lb ub eps kappa : R).
Hypothesis box : lb <= ub.
Hypothesis eps_pos : 0 <= eps.
Hypothesis kappa_pos : 0 < kappa.

Variable n : nat -> nat.                (* size of batch t *)
Variable g : nat -> nat -> bool.        (* group of sample i of batch t *)
Variable z y : nat -> nat -> R.         (* score in, score out *)

Hypothesis z_in : forall t i, (i < n t)%nat -> lb <= z t i <= ub.
Hypothesis y_in : forall t i, (i < n t)%nat -> lb <= y t i <= ub.

(* counts and sums before batch t *)
Fixpoint C (t : nat) (b : bool) : nat :=
  match t with O => O | S s => (C s b + cnt (n s) (g s) b)%nat end.
Fixpoint T (t : nat) (b : bool) : R :=
  match t with O => 0 | S s => T s b + gsum (n s) (g s) b (y s) end.

Definition M (t : nat) (b : bool) : R := T t b / INR (C t b).
Definition D (t : nat) : R := M t false - M t true.

(* the group means after batch t if it were answered by f *)
Definition Mf (t : nat) (b : bool) (f : nat -> R) : R :=
  (T t b + gsum (n t) (g t) b f) / INR (C (S t) b).
Definition N (t : nat) : R := INR (C t false) + INR (C t true).
Definition excess (d : R) : R := Rmax 0 (Rabs d - eps).

(* 1/2 ||f - z||^2 + kappa N^{3/2} / 2 (|D| - eps)_+^2, after the batch *)
Definition objective (t : nat) (f : nat -> R) : R :=
  sum (n t) (fun i => / 2 * ((f i - z t i) * (f i - z t i)))
  + kappa * (N (S t) * sqrt (N (S t))) / 2 * (excess (Mf t false f - Mf t true f) * excess (Mf t false f - Mf t true f)).

Definition present (t : nat) : Prop := (1 <= C t false)%nat /\ (1 <= C t true)%nat.

(* the rule: once both groups are there, each batch is answered by a minimiser in the box *)
Hypothesis rule : forall t, present (S t) ->
  forall f, (forall i, (i < n t)%nat -> lb <= f i <= ub) -> objective t (y t) <= objective t f.

(* the bound: eps + pi R / (kappa sqrt N) *)
Definition theta (t : nat) : R := eps + (ub - lb) / kappa * rate (INR (C t false)) (INR (C t true)).

Lemma gsum_bounds b t : INR (cnt (n t) (g t) b) * lb <= gsum (n t) (g t) b (y t) <= INR (cnt (n t) (g t) b) * ub.
Proof. apply gsum_in. intros i H. apply y_in. exact H. Qed.

Lemma T_bounds b t : INR (C t b) * lb <= T t b <= INR (C t b) * ub.
Proof.
  induction t as [|t IH]; cbn [C T]; [simpl; lra|].
  rewrite plus_INR. pose proof (gsum_bounds b t). lra.
Qed.

Lemma M_bounds b t : (1 <= C t b)%nat -> lb <= M t b <= ub.
Proof.
  intros H. assert (0 < INR (C t b)) by (apply lt_0_INR; lia).
  pose proof (T_bounds b t). unfold M. split.
  - apply Rmult_le_reg_r with (INR (C t b)); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. lra.
  - apply Rmult_le_reg_r with (INR (C t b)); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. lra.
Qed.

(* signed gap seen from group b *)
Definition G (t : nat) (b : bool) : R := M t b - M t (negb b).
Definition Gf (t : nat) (b : bool) (f : nat -> R) : R := Mf t b f - Mf t (negb b) f.

Lemma Mf_y t b : Mf t b (y t) = M (S t) b.
Proof. reflexivity. Qed.

Lemma excess_G t b f : excess (Mf t false f - Mf t true f) = excess (Gf t b f).
Proof.
  unfold excess, Gf. destruct b; simpl; [|reflexivity]. rewrite Rabs_minus_sym. reflexivity.
Qed.

Lemma C_mono t b : (C t b <= C (S t) b)%nat.
Proof. cbn [C]. lia. Qed.

(* moving sample k, of group gk, by d *)
Lemma Mf_upd t k d b : (k < n t)%nat -> (1 <= C (S t) b)%nat ->
  Mf t b (upd (y t) k d) = Mf t b (y t) + (if eqb (g t k) b then d / INR (C (S t) b) else 0).
Proof.
  intros Hk HC. assert (0 < INR (C (S t) b)) by (apply lt_0_INR; lia).
  unfold Mf, gsum.
  rewrite (sum_upd (n t) (fun i v => if eqb (g t i) b then v else 0) (y t) k d Hk).
  destruct (eqb (g t k) b); field; lra.
Qed.

(* the sign with which sample k moves when its group is b (top) or not *)
Definition dir (t k : nat) (b : bool) : R := if eqb (g t k) b then -1 else 1.

Lemma Gf_upd t k d b : (k < n t)%nat -> present (S t) ->
  Gf t b (upd (y t) k (dir t k b * d)) = G (S t) b - d / INR (C (S t) (g t k)).
Proof.
  intros Hk [P0 P1]. unfold Gf, G, dir.
  assert (0 < INR (C (S t) false)) by (apply lt_0_INR; lia).
  assert (0 < INR (C (S t) true)) by (apply lt_0_INR; lia).
  rewrite !Mf_upd by (destruct b; assumption). rewrite !Mf_y.
  destruct b, (g t k); simpl eqb; cbn [negb]; cbv iota; field; lra.
Qed.

(* beyond the bound, every sample sits at the bound of the box that shrinks the gap *)
Lemma saturated t b k : present (S t) -> theta (S t) < G (S t) b -> (k < n t)%nat ->
  y t k = if eqb (g t k) b then lb else ub.
Proof.
  intros P HG Hk. pose proof P as [P0 P1].
  assert (c0 : 0 < INR (C (S t) false)) by (apply lt_0_INR; lia).
  assert (c1 : 0 < INR (C (S t) true)) by (apply lt_0_INR; lia).
  set (a := INR (C (S t) false)) in *. set (c := INR (C (S t) true)) in *.
  pose proof (rate_pos a c c0 c1) as HR.
  set (A := N (S t) * sqrt (N (S t))).
  assert (HA : 0 < A) by (unfold A, N; apply pow32; unfold a, c in *; lra).
  set (v := G (S t) b - eps). 
  set (q := INR (C (S t) (g t k))).
  assert (Hq : 0 < q) by (unfold q; apply lt_0_INR; destruct (g t k); lia).
  assert (Hqm : q <= Rmax a c) by (unfold q, a, c; destruct (g t k); [apply Rmax_r|apply Rmax_l]).
  (* the shift exceeds the width of the box *)
  assert (Hv : 0 < v).
  { unfold v, theta in *. fold a c in HG.
    assert (0 <= (ub - lb) / kappa * rate a c).
    { apply Rmult_le_pos; [|lra]. apply Rmult_le_pos; [lra|]. apply Rlt_le, Rinv_0_lt_compat, kappa_pos. }
    lra. }
  assert (shift : ub - lb < kappa * A * v / q).
  { unfold v, theta in *. fold a c in HG.
    assert (HA' : rate a c = Rmax a c / A) by reflexivity.
    assert (Hm : 0 < Rmax a c) by (apply Rlt_le_trans with a; [lra|apply Rmax_l]).
    assert (E : (ub - lb) / kappa * (Rmax a c / A) < G (S t) b - eps) by (rewrite <- HA'; lra).
    apply Rmult_lt_reg_r with q; [lra|].
    replace (kappa * A * (G (S t) b - eps) / q * q) with (kappa * A * (G (S t) b - eps)) by (field; lra).
    apply Rle_lt_trans with ((ub - lb) * Rmax a c); [apply Rmult_le_compat_l; lra|].
    replace ((ub - lb) * Rmax a c) with (kappa * A * ((ub - lb) / kappa * (Rmax a c / A))) by (field; lra).
    apply Rmult_lt_compat_l; [apply Rmult_lt_0_compat; lra|exact E]. }
  pose proof (z_in t k Hk) as Hz. pose proof (y_in t k Hk) as Hy.
  (* room to move *)
  set (room := if eqb (g t k) b then y t k - lb else ub - y t k).
  assert (Hroom : 0 <= room) by (unfold room; destruct (eqb (g t k) b); lra).
  destruct (Req_dec room 0) as [E|E].
  { unfold room in E. destruct (eqb (g t k) b); lra. }
  exfalso.
  set (s := dir t k b). assert (Hs : s * s = 1) by (unfold s, dir; destruct (eqb (g t k) b); ring).
  assert (F : kappa * A * v / q - s * (y t k - z t k) <= 0).
  { apply (first_order _ (/ 2 + kappa * A / (2 * (q * q))) (Rmin room (v * q))).
    - apply Rmin_glb_lt; [lra|apply Rmult_lt_0_compat; lra].
    - assert (0 < kappa * A / (2 * (q * q))); [|lra].
      apply Rdiv_lt_0_compat; [apply Rmult_lt_0_compat; lra|nra].
    - intros d [Hd0 Hd].
      assert (Hd1 : d <= room) by (eapply Rle_trans; [exact Hd|apply Rmin_l]).
      assert (Hd2 : d <= v * q) by (eapply Rle_trans; [exact Hd|apply Rmin_r]).
      assert (inb : forall i, (i < n t)%nat -> lb <= upd (y t) k (s * d) i <= ub).
      { intros i Hi. unfold upd. destruct (Nat.eqb_spec i k) as [->|]; [|apply y_in; exact Hi].
        unfold s, dir, room in *. destruct (eqb (g t k) b); lra. }
      pose proof (rule t P _ inb) as O. unfold objective in O. fold A in O.
      rewrite (excess_G t b (y t)), (excess_G t b (upd (y t) k (s * d))) in O.
      assert (E1 : excess (Gf t b (y t)) = v).
      { unfold excess. replace (Gf t b (y t)) with (G (S t) b) by reflexivity.
        unfold v in *. rewrite Rabs_right by lra. apply Rmax_right. lra. }
      assert (E2 : excess (Gf t b (upd (y t) k (s * d))) = v - d / q).
      { assert (Hdq : d / q <= v).
        { apply Rmult_le_reg_r with q; [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. lra. }
        unfold excess, s. rewrite Gf_upd by assumption. fold q. unfold v in *.
        rewrite Rabs_right by lra. rewrite Rmax_right by lra. ring. }
      rewrite E1, E2 in O.
      rewrite (sum_upd (n t) (fun i v => / 2 * ((v - z t i) * (v - z t i))) (y t) k (s * d) Hk) in O.
      replace (- (kappa * A * v / q - s * (y t k - z t k)) * d + (/ 2 + kappa * A / (2 * (q * q))) * (d * d)) with
        (/ 2 * ((y t k + s * d - z t k) * (y t k + s * d - z t k)) - / 2 * ((y t k - z t k) * (y t k - z t k))
         + kappa * A / 2 * ((v - d / q) * (v - d / q)) - kappa * A / 2 * (v * v) + (1 - s * s) * (d * d) / 2)
        by (field; lra).
      rewrite Hs. lra. }
  assert (s * (y t k - z t k) <= ub - lb) by (unfold s, dir; destruct (eqb (g t k) b); lra).
  lra.
Qed.

Lemma gap_falls t b : present (S t) -> theta (S t) < G (S t) b ->
  present t /\
  G (S t) b <= INR (C t b) / INR (C (S t) b) * (INR (C t (negb b)) / INR (C (S t) (negb b))) * G t b.
Proof.
  intros P HG. pose proof P as [P0 P1].
  assert (c0 : 0 < INR (C (S t) b)) by (apply lt_0_INR; destruct b; lia).
  assert (c1 : 0 < INR (C (S t) (negb b))) by (apply lt_0_INR; destruct b; cbn [negb]; lia).
  assert (E0 : T (S t) b = T t b + INR (cnt (n t) (g t) b) * lb).
  { cbn [T]. rewrite (gsum_const _ _ b _ lb); [reflexivity|]. intros i Hi E.
    rewrite (saturated t b i P HG Hi), E, eqb_reflx. reflexivity. }
  assert (E1 : T (S t) (negb b) = T t (negb b) + INR (cnt (n t) (g t) (negb b)) * ub).
  { cbn [T]. rewrite (gsum_const _ _ (negb b) _ ub); [reflexivity|]. intros i Hi E.
    rewrite (saturated t b i P HG Hi), E. destruct b; reflexivity. }
  assert (th : 0 <= theta (S t)).
  { unfold theta. pose proof (rate_pos (INR (C (S t) false)) (INR (C (S t) true))) as HR.
    assert (0 < rate (INR (C (S t) false)) (INR (C (S t) true))) by (apply HR; apply lt_0_INR; lia).
    assert (0 <= (ub - lb) / kappa) by (apply Rmult_le_pos; [lra|apply Rlt_le, Rinv_0_lt_compat, kappa_pos]). nra. }
  assert (K0 : INR (C (S t) b) = INR (C t b) + INR (cnt (n t) (g t) b)) by (cbn [C]; apply plus_INR).
  assert (K1 : INR (C (S t) (negb b)) = INR (C t (negb b)) + INR (cnt (n t) (g t) (negb b))) by (cbn [C]; apply plus_INR).
  pose proof (M_bounds b (S t) ltac:(destruct b; lia)) as B0.
  pose proof (M_bounds (negb b) (S t) ltac:(destruct b; cbn [negb]; lia)) as B1.
  assert (old : forall c, C t c = O -> T t c = 0).
  { intros c E. pose proof (T_bounds c t) as HT. rewrite E in HT. simpl in HT. lra. }
  destruct (Nat.eq_dec (C t b) 0) as [Z|Z].
  { (* group b is new: its mean is lb *)
    exfalso. assert (M (S t) b = lb); [|unfold G in HG; lra].
    unfold M. rewrite E0, (old b Z), K0, Z. rewrite K0, Z in c0. cbn [INR] in *. field. lra. }
  destruct (Nat.eq_dec (C t (negb b)) 0) as [Z'|Z'].
  { exfalso. assert (M (S t) (negb b) = ub); [|unfold G in HG; lra].
    unfold M. rewrite E1, (old _ Z'), K1, Z'. rewrite K1, Z' in c1. cbn [INR] in *. field. lra. }
  split; [split; destruct b; cbn [negb] in *; lia|].
  assert (d0 : 0 < INR (C t b)) by (apply lt_0_INR; lia).
  assert (d1 : 0 < INR (C t (negb b))) by (apply lt_0_INR; lia).
  pose proof (pos_INR (cnt (n t) (g t) b)) as n0. pose proof (pos_INR (cnt (n t) (g t) (negb b))) as n1.
  pose proof (M_bounds b t ltac:(lia)) as B2. pose proof (M_bounds (negb b) t ltac:(lia)) as B3.
  set (al := INR (C t b) / INR (C (S t) b)). set (be := INR (C t (negb b)) / INR (C (S t) (negb b))).
  assert (Ha : 0 <= al <= 1).
  { unfold al. split; [apply Rlt_le, Rdiv_lt_0_compat; lra|].
    apply Rmult_le_reg_r with (INR (C (S t) b)); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. lra. }
  assert (Hb : 0 <= be <= 1).
  { unfold be. split; [apply Rlt_le, Rdiv_lt_0_compat; lra|].
    apply Rmult_le_reg_r with (INR (C (S t) (negb b))); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. lra. }
  assert (X0 : M (S t) b - lb = al * (M t b - lb)).
  { unfold M, al. rewrite E0, K0. field. lra. }
  assert (X1 : ub - M (S t) (negb b) = be * (ub - M t (negb b))).
  { unfold M, be. rewrite E1, K1. field. lra. }
  pose proof (contraction al be (M t b - lb) (ub - M t (negb b)) (ub - lb) ltac:(lra) Ha Hb ltac:(lra) ltac:(lra)) as K.
  unfold G. lra.
Qed.

Lemma theta_falls t : present t ->
  theta t * (INR (C t false) / INR (C (S t) false) * (INR (C t true) / INR (C (S t) true))) <= theta (S t).
Proof.
  intros [P0 P1]. unfold theta.
  pose proof (rate_many (C t false) (C t true) (cnt (n t) (g t) false) (cnt (n t) (g t) true) P0 P1) as H.
  cbn [C]. set (r := rate (INR (C t false)) (INR (C t true))) in *.
  set (al := INR (C t false) / INR (C t false + cnt (n t) (g t) false)) in *.
  set (be := INR (C t true) / INR (C t true + cnt (n t) (g t) true)) in *.
  assert (Ha : 0 <= al <= 1).
  { assert (0 < INR (C t false + cnt (n t) (g t) false)) by (apply lt_0_INR; lia).
    unfold al. split; [apply Rmult_le_pos; [apply pos_INR|apply Rlt_le, Rinv_0_lt_compat; lra]|].
    apply Rmult_le_reg_r with (INR (C t false + cnt (n t) (g t) false)); [lra|].
    unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. rewrite plus_INR. pose proof (pos_INR (cnt (n t) (g t) false)). lra. }
  assert (Hb : 0 <= be <= 1).
  { assert (0 < INR (C t true + cnt (n t) (g t) true)) by (apply lt_0_INR; lia).
    unfold be. split; [apply Rmult_le_pos; [apply pos_INR|apply Rlt_le, Rinv_0_lt_compat; lra]|].
    apply Rmult_le_reg_r with (INR (C t true + cnt (n t) (g t) true)); [lra|].
    unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. rewrite plus_INR. pose proof (pos_INR (cnt (n t) (g t) true)). lra. }
  assert (Hk : 0 <= (ub - lb) / kappa) by (apply Rmult_le_pos; [lra|apply Rlt_le, Rinv_0_lt_compat, kappa_pos]).
  assert (al * be <= 1) by nra. assert (0 <= al * be) by nra.
  assert (eps * (al * be) <= eps) by nra.
  assert ((ub - lb) / kappa * (r * al * be) <= (ub - lb) / kappa * rate (INR (C t false + cnt (n t) (g t) false)) (INR (C t true + cnt (n t) (g t) true)))
    by (apply Rmult_le_compat_l; assumption).
  replace ((eps + (ub - lb) / kappa * r) * (al * be)) with (eps * (al * be) + (ub - lb) / kappa * (r * al * be)) by ring.
  lra.
Qed.

Lemma theorem_B_signed t b : present t -> G t b <= theta t.
Proof.
  revert b. induction t as [|t IH]; intros b P.
  - destruct P as [P _]. simpl in P. lia.
  - apply Rnot_lt_le. intro L. destruct (gap_falls t b P L) as [Q K].
    pose proof (IH b Q) as H. pose proof (theta_falls t Q) as F.
    set (r := INR (C t b) / INR (C (S t) b) * (INR (C t (negb b)) / INR (C (S t) (negb b)))) in *.
    assert (R0 : 0 <= r).
    { destruct P as [P0 P1]. unfold r. apply Rmult_le_pos; apply Rmult_le_pos; try apply pos_INR;
        apply Rlt_le, Rinv_0_lt_compat, lt_0_INR; destruct b; cbn [negb]; lia. }
    assert (E : theta t * r <= theta (S t)).
    { unfold r. destruct b; cbn [negb]; [rewrite (Rmult_comm (INR (C t true) / _))|]; exact F. }
    assert (r * G t b <= r * theta t) by (apply Rmult_le_compat_l; assumption). lra.
Qed.

(* Theorem B. From the first moment both groups exist: |D_t| <= eps + pi_t R / (kappa sqrt N_t). *)
Theorem P2 t : present t ->
  Rabs (D t) <= eps + Rmax (INR (C t false)) (INR (C t true)) / N t * (ub - lb) / (kappa * sqrt (N t)).
Proof.
  intros P. pose proof (theorem_B_signed t false P) as H0. pose proof (theorem_B_signed t true P) as H1.
  unfold G in *. cbn [negb] in *.
  replace (eps + _) with (theta t).
  - unfold D. apply Rabs_le. lra.
  - destruct P as [P0 P1]. assert (0 < INR (C t false)) by (apply lt_0_INR; lia).
    assert (0 < INR (C t true)) by (apply lt_0_INR; lia).
    assert (0 < sqrt (N t)) by (apply sqrt_lt_R0; unfold N; lra).
    unfold theta, rate. fold (N t). unfold N in *. field. repeat split; lra.
Qed.
End Stream.
