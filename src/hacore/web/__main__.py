"""`python -m hacore.web CHANNEL_FD`: the control worker with the status page."""

from hacore.control.worker import ControlWorker
from hacore.node.control import main


def page(worker: ControlWorker) -> object:
    """The part; what cannot even be imported leaves the node API as it is."""
    from hacore.web.site import Site

    return worker.part(Site)


if __name__ == "__main__":
    main([page])
