"""The training cases themselves: wrong labels, copies, cases that are no real ones, planted marks."""
