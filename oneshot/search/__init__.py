"""A study: many trainings by Ray Tune, and the judgement of the best one."""
