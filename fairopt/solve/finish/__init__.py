"""From a backend's answer to certified scores: polish, rounding, the exact check, repair, equal means, the gate."""
