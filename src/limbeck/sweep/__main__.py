"""`python -m limbeck.sweep DIR`: the summary of all runs below a folder, at any time."""

from limbeck.sweep.summary import main

main()
