(* The closed form of one sample (Step.v) is what the rule of Theorem B asks for a batch of one. *)
Require Import Reals Lra Lia Bool.
From Fairopt Require Import Sums Groups TheoremB Step.
Open Scope R_scope.

Section OneSample.
Variables (lb ub eps kappa : R) (n : nat -> nat) (g : nat -> nat -> bool) (z y : nat -> nat -> R) (t : nat).
Definition b : bool := g t O.
Definition gamma : R := kappa * (N n g (S t) * sqrt (N n g (S t))).
Hypothesis kappa_pos : 0 < kappa.
Hypothesis eps_pos : 0 <= eps.
Hypothesis single : n t = 1%nat.
Hypothesis z_in : lb <= z t O <= ub.
Hypothesis both : present n g (S t).
Hypothesis sent : y t O = answer (z t O) (INR (C n g (S t) b)) (T n g y t b) (M n g y t (negb b)) gamma eps lb ub.

Theorem P2_one_sample f : (forall i, (i < n t)%nat -> lb <= f i <= ub) ->
  objective eps kappa n g z y t (y t) <= objective eps kappa n g z y t f.
Proof.
  intros Hf. destruct both as [P0 P1].
  assert (C0 : 0 < INR (C n g (S t) false)) by (apply lt_0_INR; lia).
  assert (C1 : 0 < INR (C n g (S t) true)) by (apply lt_0_INR; lia).
  assert (G : 0 < gamma).
  { unfold gamma. apply Rmult_lt_0_compat; [exact kappa_pos|]. assert (HN : 0 < N n g (S t)) by (unfold N; lra).
    apply Rmult_lt_0_compat; [exact HN|apply sqrt_lt_R0; exact HN]. }
  assert (E : forall h, objective eps kappa n g z y t h
    = cost (z t O) (INR (C n g (S t) b)) (T n g y t b) (M n g y t (negb b)) gamma eps (h O)).
  { intros h. unfold objective, cost. rewrite single. cbn [sum]. fold gamma.
    assert (X : TheoremB.excess eps (Mf n g y t false h - Mf n g y t true h)
      = Step.excess (INR (C n g (S t) b)) (T n g y t b) (M n g y t (negb b)) eps (h O)).
    { unfold TheoremB.excess, Step.excess, difference. f_equal. f_equal.
      assert (A : Mf n g y t b h = (T n g y t b + h O) / INR (C n g (S t) b)).
      { unfold Mf, gsum. rewrite single. cbn [sum]. fold b. rewrite eqb_reflx, Rplus_0_l. reflexivity. }
      assert (B : Mf n g y t (negb b) h = M n g y t (negb b)).
      { unfold Mf, M, gsum. cbn [C]. rewrite single. cbn [sum cnt]. fold b. rewrite eqb_negb2, Nat.add_0_r, !Rplus_0_r. reflexivity. }
      rewrite <- A, <- B. destruct b; cbn [negb]; [apply Rabs_minus_sym|reflexivity]. }
    rewrite X. lra. }
  rewrite !E, sent. apply answer_least; try assumption.
  - destruct b; assumption.
  - apply Hf. rewrite single. lia.
Qed.
End OneSample.
