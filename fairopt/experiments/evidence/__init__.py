"""The evidence: every method behind every base under the protocol of docs/experiments/PROTOCOL.md, with errors of the whole procedure."""
