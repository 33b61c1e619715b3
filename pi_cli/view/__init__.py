"""The screens: tables, progress, answers, logs."""
