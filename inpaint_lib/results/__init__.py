"""From the files of all runs to tables, verdicts, figures and pages. Nothing here trains."""
