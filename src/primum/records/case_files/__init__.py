"""Cases in files: what each layout and each format of input is read by; see ``docs/cases.md``."""
