"""Runs that are stopped on their way, for the tests of what is left behind."""

from toygen import GanRun


def interrupted(step):
    """A run that stops as if somebody pressed Ctrl-C."""

    class Run(GanRun):
        def __iter__(self):
            for progress in super().__iter__():
                yield progress
                if progress.done == step:
                    raise KeyboardInterrupt

    return Run
