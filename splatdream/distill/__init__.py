"""Score-distillation rules: one small file each.

Beside what `contracts.Distiller` asks for, a rule may have two attributes, which `dream` reads before the first step:
`words`, what it asks the prior about of its own accord, so that the prior can be checked for knowing them; and
`needs_negative_prompt`, True where it cannot work without one.
"""
