"""``import_weights``, ``multibox import`` and published names, from file to checkpoint."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

import multibox
from multibox import checkpoints, importing
from multibox.cli import main
from multibox.errors import InputError, MultiboxError
from multibox.importers.published import find_published
from multibox.importing import import_weights
from multibox.parity.compare import Parity

PUBLISHED = "torchvision:ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict of torchvision's SSDLite for three classes."""
    torch.manual_seed(0)
    network = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    ).eval()
    path = tmp_path_factory.mktemp("foreign") / "lite.pth"
    torch.save(network.state_dict(), path)
    return path


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_the_command_line_writes_a_checkpoint_and_says_how_it_compares(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n\nguinea pig\n", encoding="utf-8")
    out = tmp_path / "ours.safetensors"
    call = ["import", str(foreign), "--from", "torchvision", "--names", str(names)]
    assert main([*call, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "3,234 default boxes, 3 classes (cat, dog, guinea pig)" in said
    assert "compared with torchvision" in said

    card = checkpoints.read_card(out)
    assert card.names == ("cat", "dog", "guinea pig")
    assert card.parity is not None
    parity = Parity.model_validate(card.parity)
    assert parity.reference.startswith("torchvision ")
    assert parity.agrees
    assert max(parity.class_logits, parity.box_offsets) < 1e-4
    assert (parity.lost, parity.gained) == (0, 0)
    assert parity.detections

    detector = multibox.load(out)
    found = detector(np.zeros((64, 64, 3), np.uint8), score=0)
    assert len(found) > 0


def test_the_file_name_is_the_foreign_one(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = import_weights(foreign, "torchvision")
    assert result.file == Path("lite.safetensors")
    assert result.card.names == ("class_1", "class_2", "class_3")
    assert result.unused == ()


def test_without_torch_nothing_is_compared(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    plain = tmp_path / "lite.safetensors"
    save_file(torch.load(foreign, weights_only=True), plain)
    for module in ("multibox.parity.importing", "multibox.engines.torch"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = import_weights(plain, "torchvision", out=tmp_path / "ours.safetensors")
    assert result.parity is None
    assert checkpoints.read_card(result.file).parity is None


def test_a_network_that_differs_is_not_written(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Parity(
        reference="somebody", pictures=1, class_logits=0.5, box_offsets=0.0, magnitude=3.0
    )
    monkeypatch.setattr(importing, "_parity", lambda *_: wrong)
    out = tmp_path / "ours.safetensors"
    with pytest.raises(MultiboxError, match=r"differs from somebody: class scores by 0.5"):
        import_weights(foreign, "torchvision", out=out)
    assert not out.exists()


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["missing.pth", "--from", "torchvision"], "missing.pth: no such file"),
            ([".", "--from", "nvidia"], "is a folder"),
            (["FILE"], "say which project it is of: --from"),
            (["FILE", "--from", "torchvison"], "torchvison"),
            (["FILE", "--from", "caffe"], "a caffemodel needs its network: --prototxt FILE"),
            (["FILE", "--from", "amdegroot"], "amdegroot"),
            (["FILE", "--from", "torchvision", "--prototxt", "FILE"], "belongs to --from caffe"),
            (["FILE", "--from", "torchvision", "--names", "a,b"], "2 names are given: a, b"),
            (["FILE", "--from", "torchvision", "--names", "a,b,a"], "'a' is given to two"),
            (["FILE", "--from", "torchvision", "--names", "a,,b"], "a class name is empty"),
            (["torchvision:ssd300_vgg17"], "ssd300_vgg16"),
            ([PUBLISHED, "--from", "nvidia"], "is of torchvision, not of nvidia"),
        ],
    )
    def test_with_one_line(
        self,
        foreign: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        reason: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        given = [str(foreign) if word == "FILE" else word for word in arguments]
        assert main(["import", *given]) == 2
        assert reason in error_line(capsys)
        assert list(tmp_path.iterdir()) == []

    def test_to_overwrite_what_it_reads(self, foreign: Path) -> None:
        with pytest.raises(InputError, match="would be overwritten"):
            import_weights(foreign, "torchvision", out=foreign)


class TestPublishedNames:
    @pytest.fixture
    def fetched(self, foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Downloading gives the foreign file; the list says how often."""
        calls: list[str] = []

        def fetch(weights, on_download=None):  # type: ignore[no-untyped-def]
            calls.append(weights.name)
            return foreign

        monkeypatch.setenv("MULTIBOX_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("multibox.importers.download.fetch", fetch)
        return calls

    def test_load_downloads_and_imports_once(
        self, fetched: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        card = multibox.load(PUBLISHED).card
        assert card.model == "ssdlite320_mobilenet_v3_large"
        assert card.parity is not None
        assert multibox.load(PUBLISHED).card == card
        assert fetched == [PUBLISHED]

    def test_import_names_the_checkpoint_after_it(
        self, fetched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["import", PUBLISHED]) == 0
        assert (tmp_path / "torchvision-ssdlite320_mobilenet_v3_large.safetensors").is_file()
        assert find_published(PUBLISHED).name == PUBLISHED
