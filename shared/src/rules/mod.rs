//! The rules of GRASP-01: facts in, verdicts out. Nothing here logs, waits, reads or knows the time.
