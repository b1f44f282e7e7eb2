(* One sample of the pooled rule (P2): the closed form that fairopt runs is the minimiser; and the same in rationals, to be evaluated. *)
Require Import Reals Lra Lia Psatz QArith Qreals Bool List.
From Fairopt Require Import Sums.
Open Scope R_scope.

Section Step.
Variables (z count base other gamma eps lb ub : R).
Hypothesis count_pos : 0 < count.
Hypothesis gamma_pos : 0 < gamma.
Hypothesis eps_pos : 0 <= eps.
Hypothesis z_in : lb <= z <= ub.
(* the difference after an answer f of the sample: its group has the sum base + f and count samples, the other group the mean other *)
Definition difference (f : R) : R := (base + f) / count - other.
Definition excess (f : R) : R := Rmax 0 (Rabs (difference f) - eps).
Definition cost (f : R) : R := / 2 * ((f - z) * (f - z)) + gamma / 2 * (excess f * excess f).

Definition beyond : R :=
  if Rlt_dec eps (difference z) then difference z - eps else if Rlt_dec (difference z) (- eps) then difference z + eps else 0.
Definition answer : R := Rmax lb (Rmin ub (z - gamma / count * beyond / (1 + gamma / count / count))).

(* the signed excess, and a lower bound of the cost by its tangent *)
Lemma excess_ge v f : 0 <= v -> v * (difference f - eps) <= v * excess f /\ v * (- difference f - eps) <= v * excess f.
Proof.
  intros H. pose proof (Rmax_r 0 (Rabs (difference f) - eps)). fold (excess f) in H0.
  split; apply Rmult_le_compat_l; try lra; unfold Rabs in H0; destruct (Rcase_abs (difference f)); lra.
Qed.

Lemma tangent f e : gamma / 2 * (e * e) + gamma * e * (excess f - e) <= gamma / 2 * (excess f * excess f).
Proof.
  pose proof (Rle_0_sqr (excess f - e)) as H. unfold Rsqr in H.
  assert (0 <= gamma / 2 * ((excess f - e) * (excess f - e))) by (apply Rmult_le_pos; lra). lra.
Qed.

(* a point a with a multiplier p of the excess: least, if moving away is uphill *)
Lemma least_by_slope a s : (s = 1 \/ s = -1) -> lb <= a <= ub -> excess a = s * difference a - eps -> 0 <= excess a ->
  (forall f, lb <= f <= ub -> 0 <= (a - z + s * gamma * excess a / count) * (f - a)) ->
  forall f, lb <= f <= ub -> cost a <= cost f.
Proof.
  intros Hs Ha E P H f Hf. unfold cost. pose proof (tangent f (excess a)) as T. pose proof (H f Hf) as S.
  assert (K : gamma * excess a * (s * difference f - eps - excess a) <= gamma * excess a * (excess f - excess a)).
  { destruct (excess_ge (gamma * excess a) f) as [X Y]; [apply Rmult_le_pos; lra|]. destruct Hs as [->| ->]; lra. }
  assert (D : s * difference f - eps - excess a = s * ((f - a) / count)).
  { rewrite E. unfold difference. field. lra. }
  rewrite D in K.
  assert (0 <= (f - a) * (f - a)) by apply Rle_0_sqr.
  replace ((a - z + s * gamma * excess a / count) * (f - a))
    with ((a - z) * (f - a) + gamma * excess a * (s * ((f - a) / count))) in S by (field; lra).
  replace ((f - z) * (f - z)) with ((a - z) * (a - z) + 2 * ((a - z) * (f - a)) + (f - a) * (f - a)) by ring. lra.
Qed.

Theorem answer_inside : lb <= answer <= ub.
Proof.
  unfold answer. split; [apply Rmax_l|]. apply Rmax_lub; [lra|apply Rmin_l].
Qed.

Theorem answer_least f : lb <= f <= ub -> cost answer <= cost f.
Proof.
  intros Hf. pose proof answer_inside as Ha.
  set (k := gamma / count). assert (Hk : 0 < k) by (apply Rdiv_lt_0_compat; assumption).
  set (m := 1 + k / count). assert (Hm : 1 < m) by (unfold m; assert (0 < k / count) by (apply Rdiv_lt_0_compat; assumption); lra).
  assert (Eg : gamma = k * count) by (unfold k; field; lra).
  assert (Ek : k = (m - 1) * count) by (unfold m; field; lra).
  assert (side : forall s v, (s = 1 \/ s = -1) -> 0 < v -> s * difference z - eps = v -> beyond = s * v -> cost answer <= cost f).
  { intros s v Hs Hv Ev Eb.
    set (x := z - k * (s * v) / m).
    assert (Ea : answer = Rmax lb (Rmin ub x)) by (unfold answer, x; rewrite Eb; reflexivity).
    (* where it stands the excess is that of the side, and not below 0 *)
    assert (Q : 0 < k / m) by (apply Rdiv_lt_0_compat; lra).
    assert (near : 0 <= s * (z - answer) <= k * v / m).
    { assert (s * (z - x) = k * v / m) by (unfold x; destruct Hs as [->| ->]; field; lra).
      assert (0 < k * v / m) by (replace (k * v / m) with (v * (k / m)) by (field; lra); apply Rmult_lt_0_compat; lra).
      rewrite Ea. unfold Rmax, Rmin. destruct (Rle_dec ub x), Hs as [->| ->];
        repeat match goal with |- context [Rle_dec ?a ?b] => destruct (Rle_dec a b) end; lra. }
    assert (dz : s * difference answer - eps = v - s * (z - answer) / count).
    { rewrite <- Ev. unfold difference. field. lra. }
    assert (pos : 0 <= v - s * (z - answer) / count).
    { assert (s * (z - answer) / count <= k * v / m / count) by (apply Rmult_le_compat_r; [apply Rlt_le, Rinv_0_lt_compat; lra|lra]).
      replace (k * v / m / count) with (v * ((m - 1) / m)) in H by (rewrite Ek; field; lra).
      assert ((m - 1) / m <= 1) by (apply Rmult_le_reg_r with m; [lra|]; unfold Rdiv; rewrite Rmult_assoc, Rinv_l by lra; lra). nra. }
    assert (E : excess answer = s * difference answer - eps).
    { unfold excess. destruct Hs as [->| ->].
      - rewrite Rabs_right by lra. rewrite Rmax_right by lra. ring.
      - rewrite Rabs_left1 by lra. rewrite Rmax_right by lra. ring. }
    apply (least_by_slope answer s); try assumption; [rewrite E; lra|].
    intros h Hh. rewrite E, dz.
    (* the slope is m (answer - x), up to sign of the clipping *)
    replace (answer - z + s * gamma * (v - s * (z - answer) / count) / count) with (m * (answer - x) + (1 - s * s) * (k * (z - answer) / count)).
    2:{ rewrite Eg. unfold x. rewrite Ek. field. lra. }
    replace (1 - s * s) with 0 by (destruct Hs as [->| ->]; ring). rewrite Rmult_0_l, Rplus_0_r.
    rewrite Ea in *. unfold Rmax, Rmin in *. destruct (Rle_dec ub x).
    - destruct (Rle_dec lb ub); [|lra]. assert (0 <= (m * (x - ub)) * (ub - h)) by (apply Rmult_le_pos; [apply Rmult_le_pos|]; lra). lra.
    - destruct (Rle_dec lb x).
      + right. ring.
      + assert (0 <= (m * (lb - x)) * (h - lb)) by (apply Rmult_le_pos; [apply Rmult_le_pos|]; lra). lra. }
  unfold beyond in side. destruct (Rlt_dec eps (difference z)) as [A|A]; [apply (side 1 (difference z - eps)); lra|].
  destruct (Rlt_dec (difference z) (- eps)) as [B|B].
  - apply (side (-1) (- difference z - eps)); lra.
  - assert (E : answer = z).
    { unfold answer, beyond. destruct (Rlt_dec eps (difference z)), (Rlt_dec (difference z) (- eps)); try lra.
      replace (z - gamma / count * 0 / (1 + gamma / count / count)) with z by (unfold Rdiv; ring).
      rewrite Rmin_right, Rmax_right by lra. reflexivity. }
    rewrite E. unfold cost. replace (excess z) with 0.
    + assert (0 <= (f - z) * (f - z)) by apply Rle_0_sqr. assert (0 <= gamma / 2 * (excess f * excess f)).
      { apply Rmult_le_pos; [lra|apply Rle_0_sqr]. } lra.
    + unfold excess. symmetry. apply Rmax_left. unfold Rabs. destruct (Rcase_abs (difference z)); lra.
Qed.
End Step.

(* the same closed form in rationals, which Coq can evaluate *)
Open Scope Q_scope.
Definition lower (a b : Q) : Q := if Qle_bool a b then a else b.
Definition higher (a b : Q) : Q := if Qle_bool a b then b else a.
Definition beyondQ (z count base other eps : Q) : Q :=
  let e := (base + z) / count - other in
  if Qle_bool e eps then if Qle_bool (- eps) e then 0 else e + eps else e - eps.
Definition answerQ (z count base other gamma eps lb ub : Q) : Q :=
  Qred (higher lb (lower ub (z - gamma / count * beyondQ z count base other eps / (1 + gamma / count / count)))).

Lemma Qle_real a b : Qle_bool a b = true <-> (Q2R a <= Q2R b)%R.
Proof. rewrite Qle_bool_iff. split; [apply Qle_Rle|apply Rle_Qle]. Qed.

Lemma lower_real a b : Q2R (lower a b) = Rmin (Q2R a) (Q2R b).
Proof.
  unfold lower. destruct (Qle_bool a b) eqn:E.
  - apply Qle_real in E. rewrite Rmin_left by exact E. reflexivity.
  - assert (~ (Q2R a <= Q2R b)%R) by (rewrite <- Qle_real; congruence). rewrite Rmin_right by lra. reflexivity.
Qed.

Lemma higher_real a b : Q2R (higher a b) = Rmax (Q2R a) (Q2R b).
Proof.
  unfold higher. destruct (Qle_bool a b) eqn:E.
  - apply Qle_real in E. rewrite Rmax_right by exact E. reflexivity.
  - assert (~ (Q2R a <= Q2R b)%R) by (rewrite <- Qle_real; congruence). rewrite Rmax_left by lra. reflexivity.
Qed.

Lemma nonzero q : (0 < Q2R q)%R -> ~ q == 0.
Proof. intros H E. apply Qeq_eqR in E. rewrite E in H. unfold Q2R in H. simpl in H. lra. Qed.

Lemma zero_real : Q2R 0 = 0%R. Proof. unfold Q2R. simpl. lra. Qed.
Lemma one_real : Q2R 1 = 1%R. Proof. unfold Q2R. simpl. lra. Qed.

Lemma beyond_real z count base other eps : (0 < Q2R count)%R -> (0 <= Q2R eps)%R ->
  Q2R (beyondQ z count base other eps) = beyond (Q2R z) (Q2R count) (Q2R base) (Q2R other) (Q2R eps).
Proof.
  intros Hc He. unfold beyondQ, beyond, difference. pose proof (nonzero count Hc) as Nc.
  set (e := (base + z) / count - other).
  assert (E : Q2R e = ((Q2R base + Q2R z) / Q2R count - Q2R other)%R).
  { unfold e. rewrite Q2R_minus, Q2R_div, Q2R_plus by exact Nc. reflexivity. }
  rewrite <- E. destruct (Qle_bool e eps) eqn:A.
  - apply Qle_real in A. destruct (Rlt_dec (Q2R eps) (Q2R e)); [lra|]. destruct (Qle_bool (- eps) e) eqn:B.
    + apply Qle_real in B. rewrite Q2R_opp in B. destruct (Rlt_dec (Q2R e) (- Q2R eps)); [lra|]. apply zero_real.
    + assert (~ (Q2R (- eps) <= Q2R e)%R) by (rewrite <- Qle_real; congruence). rewrite Q2R_opp in H.
      destruct (Rlt_dec (Q2R e) (- Q2R eps)); [apply Q2R_plus|lra].
  - assert (~ (Q2R e <= Q2R eps)%R) by (rewrite <- Qle_real; congruence).
    destruct (Rlt_dec (Q2R eps) (Q2R e)); [apply Q2R_minus|lra].
Qed.

Theorem answer_evaluated z count base other gamma eps lb ub : (0 < Q2R count)%R -> (0 < Q2R gamma)%R -> (0 <= Q2R eps)%R ->
  Q2R (answerQ z count base other gamma eps lb ub)
  = answer (Q2R z) (Q2R count) (Q2R base) (Q2R other) (Q2R gamma) (Q2R eps) (Q2R lb) (Q2R ub).
Proof.
  intros Hc Hg He. unfold answerQ, answer. rewrite (Qeq_eqR _ _ (Qred_correct _)). rewrite higher_real, lower_real.
  pose proof (nonzero count Hc) as Nc.
  assert (K : Q2R (1 + gamma / count / count) = (1 + Q2R gamma / Q2R count / Q2R count)%R).
  { rewrite Q2R_plus, one_real, !Q2R_div by exact Nc. reflexivity. }
  assert (P : (0 < Q2R (1 + gamma / count / count))%R).
  { rewrite K. assert (0 < Q2R gamma / Q2R count / Q2R count)%R by (apply Rdiv_lt_0_compat; [apply Rdiv_lt_0_compat|]; assumption). lra. }
  rewrite Q2R_minus, Q2R_div by (apply nonzero; exact P). rewrite Q2R_mult, Q2R_div by exact Nc.
  rewrite K, beyond_real by assumption. reflexivity.
Qed.

(* the largest distance of the answers that were sent (last entry of a row) from the rule's: how fairopt is compared with it *)
Definition row : Type := Q * Q * Q * Q * Q * Q * Q * Q * Q.
Definition off (r : row) : Q :=
  let '(z, count, base, other, gamma, eps, lb, ub, sent) := r in
  let d := sent - answerQ z count base other gamma eps lb ub in higher d (- d).
Definition farthest (rows : list row) : Q := fold_left (fun m r => higher m (off r)) rows 0.
