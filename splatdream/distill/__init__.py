"""Score-distillation rules: one small file each."""
