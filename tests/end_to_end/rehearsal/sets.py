"""Small MNIST, CIFAR-10 and ImageNet in the published formats, which every process of a checkout takes for the sets.

The harness has no switch for it: a `sitecustomize` on PYTHONPATH, which Python imports before anything else, replaces
what `harness.data` knows of the published files.
"""

import dataclasses
import os
from pathlib import Path

from tests.data.formats import cifar_members, write_cifar10, write_imagenet, write_mnist

SMALL = {"side": 72, "shape": (3, 64, 64)}  # ResNet-50 and SqueezeNet can take it; Inception-v3 takes no less than 299

HOOK = """\
from harness.data import SOURCES
from harness.data.sets.imagenet import images
from harness.data.source import published
from harness.data.sets import cifar10, mnist
from harness.data.archives import Archive, Published
from harness.data.ilsvrc import PublishedImages

SOURCES["mnist"] = published({mnist!r}, mnist.arrays)
SOURCES["mnist-0-to-1"] = published({unscaled!r}, mnist.arrays)
SOURCES["cifar10"] = published({cifar10!r}, cifar10.arrays)
SOURCES["imagenet"] = images({imagenet!r})
SOURCES["imagenet-299"] = images({imagenet299!r})
"""


def write_sets(root: Path) -> dict[str, str]:
    """Write the sets and the hook below `root`; returns the environment in which processes take them."""
    data, hook = root / "files", root / "hook"
    hook.mkdir(parents=True)
    mnist, _, _ = write_mnist(data)
    cifar10 = write_cifar10(data, cifar_members()[0])
    imagenet = write_imagenet(data, side=342, crop=299)
    small = dataclasses.replace(imagenet, **SMALL)
    unscaled = dataclasses.replace(mnist, mean=(0.0,), std=(1.0,))
    code = HOOK.format(mnist=mnist, unscaled=unscaled, cifar10=cifar10, imagenet=small, imagenet299=imagenet)
    (hook / "sitecustomize.py").write_text(code)
    before = os.environ.get("PYTHONPATH", "")
    return {"HARNESS_DATA": str(data), "PYTHONPATH": os.pathsep.join(filter(None, (str(hook), before)))}
