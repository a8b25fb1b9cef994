"""Caffe's SSD: a caffemodel with its prototxt (weiliu89/caffe, chuanqi305/MobileNet-SSD).

The prototxt is followed as a graph from its detection layer back to the picture; names and the
order of layers mean nothing, but that a caffemodel's weights belong to the layer of the same name.
"""

from multibox.importers.caffe.read import read

__all__ = ["read"]
