"""Systems of the literature that are compositions: functions that return whole training runs, stage by stage."""
