"""Batches: many prompts, done by many processes that share one folder and nothing else. Importing this loads no torch.

    jobs.jsonl          what is to be done: a prompt, a seed and a whole recipe a line
    claims/             who does what (`claims.py`); no process but their owners need be alive for the rest to go on
    PROMPT-HASH/        seed-0.ply with its run beside it, seed-0.gif; archive/ holds the seeds that were not the best
    results.jsonl       what became of every job
    index.html          the same to look at

What decides a result decides its name, so a job that is done stays done however often the batch is begun, and whatever
its file of prompts has become.
"""
