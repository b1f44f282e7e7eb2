(* Two groups among n samples: how many there are, and their sums. *)
Require Import Reals Lra Lia Bool Arith.
From Fairopt Require Import Sums.
Open Scope R_scope.

Fixpoint cnt (m : nat) (h : nat -> bool) (b : bool) : nat :=
  match m with O => O | S k => (cnt k h b + if eqb (h k) b then 1 else 0)%nat end.
Definition gsum (m : nat) (h : nat -> bool) (b : bool) (f : nat -> R) : R :=
  sum m (fun i => if eqb (h i) b then f i else 0).

Lemma cnt_pos m h b k : (k < m)%nat -> h k = b -> (1 <= cnt m h b)%nat.
Proof.
  induction m as [|m IH]; intros Hk E; [lia|]. cbn [cnt].
  destruct (Nat.eq_dec k m) as [->|]; [rewrite E, eqb_reflx; lia|]. specialize (IH ltac:(lia) E). lia.
Qed.

Lemma counts h : forall m, (cnt m h false + cnt m h true = m)%nat.
Proof. induction m as [|m IH]; [reflexivity|]. cbn [cnt]. destruct (h m); simpl; lia. Qed.

Lemma gsum_const m h b f v : (forall i, (i < m)%nat -> h i = b -> f i = v) -> gsum m h b f = INR (cnt m h b) * v.
Proof.
  induction m as [|m IH]; intros H; unfold gsum in *; cbn [cnt sum]; [simpl; ring|].
  rewrite IH by (intros; apply H; [lia|assumption]). rewrite plus_INR.
  destruct (eqb (h m) b) eqn:E; simpl INR; [|ring].
  rewrite (H m) by (try lia; apply eqb_prop; exact E). ring.
Qed.

Lemma gsum_in m h b f lb ub : (forall i, (i < m)%nat -> lb <= f i <= ub) ->
  INR (cnt m h b) * lb <= gsum m h b f <= INR (cnt m h b) * ub.
Proof.
  induction m as [|m IH]; intros H; unfold gsum in *; cbn [cnt sum]; [simpl; lra|].
  specialize (IH ltac:(intros; apply H; lia)). pose proof (H m ltac:(lia)).
  rewrite plus_INR. destruct (eqb (h m) b); simpl INR; lra.
Qed.
