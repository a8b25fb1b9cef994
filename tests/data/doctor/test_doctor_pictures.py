import os
import subprocess

import cv2
import numpy as np
import pytest
from damaged_sets import encode, pixels

from multibox.data.doctor import pool
from multibox.data.doctor.pictures import look_at


def kinds(facts):
    return [kind for kind, *_ in facts.faults]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".ppm", ".pgm"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_a_file_cut_off_anywhere_is_told_from_a_whole_one(tmp_path, suffix, share):
    image = pixels("a", 200, 150)
    data = encode(suffix, image[..., 0] if suffix == ".pgm" else image)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    assert kinds(look_at(path)) == []
    path.write_bytes(data + b"\0" * 10)  # cameras and editors append to files
    assert kinds(look_at(path)) == []
    path.write_bytes(data[: int(len(data) * share)])
    assert kinds(look_at(path)) == ["truncated-image"]


def test_every_prefix_of_a_jpeg_is_a_fault(tmp_path):
    data = encode(".jpg", pixels("a", 24, 16))
    path = tmp_path / "a.jpg"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert kinds(look_at(path))[0] in ("truncated-image", "unreadable-image")


def test_a_progressive_jpeg_is_whole(tmp_path):
    done, data = cv2.imencode(".jpg", pixels("a"), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert done
    path = tmp_path / "a.jpg"
    path.write_bytes(data.tobytes())
    assert kinds(look_at(path)) == []


def test_a_flipped_bit_in_a_png_is_found_by_its_checksum(tmp_path):
    data = bytearray(encode(".png", pixels("a")))
    data[len(data) // 2] ^= 4
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert kinds(look_at(path)) == ["unreadable-image"]


def test_what_the_decoder_prints_in_a_worker_is_a_fault_of_that_picture(tmp_path):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    data = encode(".jpg", pixels("a", 200, 150))
    good.write_bytes(data)
    # Compressed data taken out of the middle: the decoder runs short and fills up.
    bad.write_bytes(data[: len(data) // 2] + data[-2:])
    facts = pool.look_at_all([good, bad], workers=1)
    assert kinds(facts[good]) == []
    assert kinds(facts[bad]) == ["unreadable-image"]
    assert facts[good].pixels


def test_four_colours_and_sixteen_bits(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.dstack([pixels("a"), pixels("a")[..., :1]]), "CMYK").save(tmp_path / "a.jpg")
    assert kinds(look_at(tmp_path / "a.jpg")) == ["unusual-image"]
    (tmp_path / "b.png").write_bytes(encode(".png", pixels("a").astype(np.uint16) * 257))
    ((kind, is_error, what, _),) = look_at(tmp_path / "b.png").faults
    assert (kind, is_error) == ("unusual-image", False)
    assert "16-bit" in what


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    assert kinds(look_at(tmp_path / "a.jpg")) == ["unreadable-image"]


def test_a_worker_that_hangs_or_dies_costs_one_picture(tmp_path, monkeypatch):
    paths = [tmp_path / f"{i}.jpg" for i in range(3)]
    for i, path in enumerate(paths):
        path.write_bytes(encode(".jpg", pixels(str(i))))
    ask = pool._ask

    def killed(process: "subprocess.Popen[str]", path, seconds):
        if path == paths[1]:
            process.kill()
            process.wait()
        return ask(process, path, seconds)

    monkeypatch.setattr(pool, "_ask", killed)
    facts = pool.look_at_all(paths, workers=1)
    assert [kinds(facts[path]) for path in paths] == [[], ["unreadable-image"], []]
