(* N2: the neutral reply, for one attribute of K groups (each attribute of the population by itself). *)
Require Import Reals Lra Lia Psatz.
From Fairopt Require Import Sums.
Open Scope R_scope.

(* x is a mixture of the v g with weights N g: what bounds all of them bounds it *)
Lemma mixture_le K N v total x b : total = sum K N -> 0 < total -> total * x = sum K (fun g => N g * v g) ->
  (forall g, (g < K)%nat -> 0 <= N g) -> (forall g, (g < K)%nat -> 0 < N g -> v g <= b) -> x <= b.
Proof.
  intros E P M W H. apply Rmult_le_reg_l with total; [exact P|]. rewrite M, E, Rmult_comm, <- sum_scal.
  apply sum_le. intros g Hg. pose proof (W g Hg). destruct (Req_dec (N g) 0) as [Z|Z]; [rewrite Z; lra|].
  assert (v g <= b) by (apply H; [exact Hg|lra]). rewrite (Rmult_comm b). apply Rmult_le_compat_l; lra.
Qed.

Lemma mixture_ge K N v total x b : total = sum K N -> 0 < total -> total * x = sum K (fun g => N g * v g) ->
  (forall g, (g < K)%nat -> 0 <= N g) -> (forall g, (g < K)%nat -> 0 < N g -> b <= v g) -> b <= x.
Proof.
  intros E P M W H. enough (- x <= - b) by lra.
  apply (mixture_le K N (fun g => - v g) total); try assumption.
  - replace (total * - x) with (-1 * (total * x)) by ring. rewrite M, <- sum_scal. apply sum_ext. intros; ring.
  - intros g Hg Pg. pose proof (H g Hg Pg). lra.
Qed.

Section N2.
Variables (K : nat) (N arrived M : nat -> R) (eps total reply : R).
Definition N' (g : nat) : R := N g + arrived g.
Definition after (v : nat -> R) (g : nat) : R := (N g * v g + arrived g * reply) / N' g.   (* all that arrived were answered by reply *)
Hypothesis counts : forall g, (g < K)%nat -> 0 <= N g /\ 0 <= arrived g.
Hypothesis total_is : total = sum K N.
Hypothesis some : 0 < total.
Hypothesis overall_mean : total * reply = sum K (fun g => N g * M g).

Lemma after_between v g b : (g < K)%nat -> 0 < N' g -> reply <= b -> (0 < N g -> v g <= b) -> after v g <= b.
Proof.
  intros Hg P C H. destruct (counts g Hg) as [W A]. apply Rmult_le_reg_r with (N' g); [exact P|].
  unfold after, Rdiv. rewrite Rmult_assoc, Rinv_l by lra. unfold N' in *.
  assert (N g * v g <= N g * b).
  { destruct (Req_dec (N g) 0) as [Z|Z]; [rewrite Z; lra|]. apply Rmult_le_compat_l; [lra|]. apply H. lra. }
  assert (arrived g * reply <= arrived g * b) by (apply Rmult_le_compat_l; lra). lra.
Qed.

Lemma after_between' v g b : (g < K)%nat -> 0 < N' g -> b <= reply -> (0 < N g -> b <= v g) -> b <= after v g.
Proof.
  intros Hg P C H. destruct (counts g Hg) as [W A]. apply Rmult_le_reg_r with (N' g); [exact P|].
  unfold after, Rdiv. rewrite Rmult_assoc, Rinv_l by lra. unfold N' in *.
  assert (N g * b <= N g * v g).
  { destruct (Req_dec (N g) 0) as [Z|Z]; [rewrite Z; lra|]. apply Rmult_le_compat_l; [lra|]. apply H. lra. }
  assert (arrived g * b <= arrived g * reply) by (apply Rmult_le_compat_l; lra). lra.
Qed.

(* differences of the present v are at most r; then so are those afterwards *)
Lemma spread v r : 0 <= r -> total * reply = sum K (fun g => N g * v g) ->
  (forall a b, (a < K)%nat -> (b < K)%nat -> 0 < N a -> 0 < N b -> v a - v b <= r) ->
  forall a b, (a < K)%nat -> (b < K)%nat -> 0 < N' a -> 0 < N' b -> after v a - after v b <= r.
Proof.
  intros Hr E H a b Ha Hb Pa Pb.
  assert (C : forall g, (g < K)%nat -> 0 <= N g) by (intros g Hg; apply counts; exact Hg).
  assert (up : forall h, (h < K)%nat -> 0 < N h -> reply - r <= v h).
  { intros h Hh Ph. enough (reply <= v h + r) by lra.
    apply (mixture_le K N v total); try assumption. intros g Hg Pg. pose proof (H g h Hg Hh Pg Ph). lra. }
  assert (down : forall h, (h < K)%nat -> 0 < N h -> v h <= reply + r).
  { intros h Hh Ph. enough (v h - r <= reply) by lra.
    apply (mixture_ge K N v total); try assumption. intros g Hg Pg. pose proof (H h g Hh Hg Ph Pg). lra. }
  enough (after v a <= after v b + r) by lra.
  apply after_between; try assumption.
  - enough (reply - r <= after v b) by lra. apply after_between'; try assumption; [lra|]. intros Pn. apply up; assumption.
  - intros Pn. enough (v a - r <= after v b) by lra. apply after_between'; try assumption.
    + pose proof (down a Ha Pn). lra.
    + intros Pn'. pose proof (H a b Ha Hb Pn Pn'). lra.
Qed.

(* no range grows *)
Theorem N2_range r : 0 <= r ->
  (forall a b, (a < K)%nat -> (b < K)%nat -> 0 < N a -> 0 < N b -> M a - M b <= r) ->
  forall a b, (a < K)%nat -> (b < K)%nat -> 0 < N' a -> 0 < N' b -> after M a - after M b <= r.
Proof. intros Hr H. apply spread; assumption. Qed.

(* the potential Psi: the least sum of N_g (M_g - T_g)^2 over targets T within eps of each other *)
Definition admissible (W T : nat -> R) : Prop :=
  forall a b, (a < K)%nat -> (b < K)%nat -> 0 < W a -> 0 < W b -> T a - T b <= eps.
Definition misfit (W m T : nat -> R) : R := sum K (fun g => W g * ((m g - T g) * (m g - T g))).
Definition optimal (W m T : nat -> R) : Prop :=
  admissible W T /\ forall T', admissible W T' -> misfit W m T <= misfit W m T'.

(* optimal targets keep the overall mean: all of them may move together *)
Lemma balance T : optimal N M T -> total * reply = sum K (fun g => N g * T g).
Proof.
  intros [A O]. rewrite overall_mean.
  set (e := sum K (fun g => N g * M g) - sum K (fun g => N g * T g)).
  assert (F : forall s, s = 1 \/ s = -1 -> s * e <= 0).
  { intros s Hs. enough (2 * (s * e) <= 0) by lra. apply (first_order _ total 1); [lra|exact some|].
    intros d [D0 D1].
    assert (A' : admissible N (fun g => T g + s * d)) by (intros a b Ha Hb Pa Pb; pose proof (A a b Ha Hb Pa Pb); lra).
    pose proof (O _ A') as L. unfold misfit in L.
    assert (E : sum K (fun g => N g * ((M g - (T g + s * d)) * (M g - (T g + s * d))))
      = sum K (fun g => N g * ((M g - T g) * (M g - T g))) - 2 * s * d * e + d * d * total).
    { unfold e. rewrite total_is. rewrite <- (sum_minus K (fun g => N g * M g)), <- !sum_scal, <- sum_minus, <- sum_plus.
      apply sum_ext. intros g _. destruct Hs as [->| ->]; ring. }
    rewrite E in L. nra. }
  pose proof (F 1 (or_introl eq_refl)). pose proof (F (-1) (or_intror eq_refl)). unfold e in *. lra.
Qed.

(* Psi does not grow: targets for the means afterwards that cost no more *)
Theorem N2_potential T : 0 <= eps -> optimal N M T -> admissible N' (after T) /\ misfit N' (after M) (after T) <= misfit N M T.
Proof.
  intros He Opt. split.
  - unfold admissible. apply spread; [exact He|apply balance; exact Opt|exact (proj1 Opt)].
  - unfold misfit. apply sum_le. intros g Hg. destruct (counts g Hg) as [W A].
    destruct (Req_dec (N' g) 0) as [Z|Z].
    + rewrite Z, Rmult_0_l. apply Rmult_le_pos; [exact W|apply Rle_0_sqr].
    + assert (P : 0 < N' g) by (unfold N' in *; lra).
      replace (after M g - after T g) with (N g * (M g - T g) / N' g) by (unfold after; field; lra).
      set (x := (M g - T g) * (M g - T g)).
      replace (N' g * (N g * (M g - T g) / N' g * (N g * (M g - T g) / N' g))) with (N g * x * (N g / N' g)) by (unfold x; field; lra).
      assert (0 <= x) by apply Rle_0_sqr.
      assert (N g / N' g <= 1).
      { apply Rmult_le_reg_r with (N' g); [exact P|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. unfold N'. lra. }
      assert (0 <= N g * x) by (apply Rmult_le_pos; assumption). nra.
Qed.

Theorem N2_Psi T T' : 0 <= eps -> optimal N M T -> optimal N' (after M) T' -> misfit N' (after M) T' <= misfit N M T.
Proof.
  intros He O [_ O']. destruct (N2_potential T He O) as [A L]. eapply Rle_trans; [apply O'; exact A|exact L].
Qed.
End N2.
