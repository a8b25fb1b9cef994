"""What OpenCV's Caffe importer makes of a network, as a program of its own.

    python caffe_opencv.py PROTOTXT CAFFEMODEL IMAGES.npy OUT.npz

needs OpenCV below 5 and NumPy alone. IMAGES are float32 ``[1, 3, h, w]`` as the network reads them.
The outputs are those of the layers mbox_loc, mbox_conf, mbox_priorbox and, where it is there,
conv4_3_norm, and the rows of detection_out.
"""

import sys

import cv2
import numpy as np


def main(prototxt: str, caffemodel: str, images: str, out: str) -> None:
    net = cv2.dnn.readNetFromCaffe(prototxt, caffemodel)
    net.enableFusion(False)
    net.enableWinograd(False)  # which trades digits for speed
    net.setInput(np.load(images))
    wanted = ["mbox_loc", "mbox_conf", "mbox_priorbox", "conv4_3_norm", "detection_out"]
    names = [name for name in wanted if name in net.getLayerNames()]
    answers = dict(zip(names, net.forward(names), strict=True))
    np.savez(out, version=cv2.__version__, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
