"""The part of Caffe's file format that detectors need, as protobuf messages built at run time.

Field numbers and defaults are those of caffe.proto on the ssd branch; what is not listed is skipped
when a file is read.
"""

from functools import cache
from typing import Any

from multibox.protobuf_schema import Schema

_ENUMS = {
    "Phase": {"TRAIN": 0, "TEST": 1},
    "PoolMethod": {"MAX": 0, "AVE": 1, "STOCHASTIC": 2},
    "CodeType": {"CORNER": 1, "CENTER_SIZE": 2, "CORNER_SIZE": 3},
    "ConfLossType": {"SOFTMAX": 0, "LOGISTIC": 1},
    "ResizeMode": {"WARP": 1, "FIT_SMALL_SIZE": 2, "FIT_LARGE_SIZE_AND_PAD": 3},
    "InterpMode": {"LINEAR": 1, "AREA": 2, "NEAREST": 3, "CUBIC": 4, "LANCZOS4": 5},
}

_MESSAGES = {
    "BlobShape": ["dim 1 int64*"],
    # Packed numbers are one run of bytes in the file; as such they become an array without a
    # Python object for each of them.
    "BlobProto": [
        "num 1 int32", "channels 2 int32", "height 3 int32", "width 4 int32", "data 5 bytes*",
        "shape 7 BlobShape", "double_data 8 bytes*",
    ],
    "NumbersOneByOne": ["data 5 float*", "double_data 8 double*"],
    "NetStateRule": [
        "phase 1 Phase", "min_level 2 int32", "max_level 3 int32", "stage 4 string*",
        "not_stage 5 string*",
    ],
    "V1LayerParameter": ["name 4 string"],
    "NetParameter": [
        "name 1 string", "layers 2 V1LayerParameter*", "input 3 string*", "input_dim 4 int32*",
        "input_shape 8 BlobShape*", "layer 100 LayerParameter*",
    ],
    "LayerParameter": [
        "name 1 string", "type 2 string", "bottom 3 string*", "top 4 string*",
        "blobs 7 BlobProto*", "include 8 NetStateRule*", "exclude 9 NetStateRule*",
        "transform_param 100 TransformationParameter",
        "concat_param 104 ConcatParameter",
        "convolution_param 106 ConvolutionParameter",
        "pooling_param 121 PoolingParameter",
        "relu_param 123 ReLUParameter",
        "softmax_param 125 SoftmaxParameter",
        "reshape_param 133 ReshapeParameter",
        "flatten_param 135 FlattenParameter",
        "batch_norm_param 139 BatchNormParameter",
        "bias_param 141 BiasParameter",
        "scale_param 142 ScaleParameter",
        "input_param 143 InputParameter",
        "multibox_loss_param 201 MultiBoxLossParameter",
        "permute_param 202 PermuteParameter",
        "prior_box_param 203 PriorBoxParameter",
        "detection_output_param 204 DetectionOutputParameter",
        "norm_param 206 NormalizeParameter",
    ],
    "TransformationParameter": [
        "scale 1 float = 1", "crop_size 3 uint32", "mean_file 4 string", "mean_value 5 float*",
        "force_gray 7 bool", "resize_param 8 ResizeParameter", "crop_h 11 uint32",
        "crop_w 12 uint32",
    ],
    "ResizeParameter": [
        "resize_mode 2 ResizeMode = WARP", "height 3 uint32", "width 4 uint32",
        "interp_mode 7 InterpMode*",
    ],
    "InputParameter": ["shape 1 BlobShape*"],
    "ConvolutionParameter": [
        "num_output 1 uint32", "bias_term 2 bool = true", "pad 3 uint32*", "kernel_size 4 uint32*",
        "group 5 uint32 = 1", "stride 6 uint32*", "pad_h 9 uint32", "pad_w 10 uint32",
        "kernel_h 11 uint32", "kernel_w 12 uint32", "stride_h 13 uint32", "stride_w 14 uint32",
        "axis 16 int32 = 1", "dilation 18 uint32*",
    ],
    "PoolingParameter": [
        "pool 1 PoolMethod = MAX", "kernel_size 2 uint32", "stride 3 uint32 = 1", "pad 4 uint32",
        "kernel_h 5 uint32", "kernel_w 6 uint32", "stride_h 7 uint32", "stride_w 8 uint32",
        "pad_h 9 uint32", "pad_w 10 uint32", "global_pooling 12 bool",
    ],
    "ReLUParameter": ["negative_slope 1 float"],
    "BatchNormParameter": ["use_global_stats 1 bool", "eps 3 float = 1e-5"],
    "ScaleParameter": ["axis 1 int32 = 1", "num_axes 2 int32 = 1", "bias_term 4 bool"],
    "BiasParameter": ["axis 1 int32 = 1", "num_axes 2 int32 = 1"],
    "NormalizeParameter": [
        "across_spatial 1 bool = true", "channel_shared 3 bool = true", "eps 4 float = 1e-10",
    ],
    "ConcatParameter": ["concat_dim 1 uint32 = 1", "axis 2 int32 = 1"],
    "SoftmaxParameter": ["axis 2 int32 = 1"],
    "FlattenParameter": ["axis 1 int32 = 1", "end_axis 2 int32 = -1"],
    "ReshapeParameter": ["shape 1 BlobShape", "axis 2 int32", "num_axes 3 int32 = -1"],
    "PermuteParameter": ["order 1 uint32*"],
    "PriorBoxParameter": [
        "min_size 1 float*", "max_size 2 float*", "aspect_ratio 3 float*", "flip 4 bool = true",
        "clip 5 bool", "variance 6 float*", "img_size 7 uint32", "img_h 8 uint32",
        "img_w 9 uint32", "step 10 float", "step_h 11 float", "step_w 12 float",
        "offset 13 float = 0.5",
    ],
    "NonMaximumSuppressionParameter": [
        "nms_threshold 1 float = 0.3", "top_k 2 int32", "eta 3 float = 1",
    ],
    "DetectionOutputParameter": [
        "num_classes 1 uint32", "share_location 2 bool = true", "background_label_id 3 int32",
        "nms_param 4 NonMaximumSuppressionParameter", "code_type 6 CodeType = CORNER",
        "keep_top_k 7 int32 = -1", "variance_encoded_in_target 8 bool",
        "confidence_threshold 9 float",
    ],
    "MultiBoxLossParameter": [
        "conf_loss_type 2 ConfLossType = SOFTMAX", "num_classes 4 uint32",
        "share_location 5 bool = true", "background_label_id 9 uint32",
        "code_type 14 CodeType = CORNER", "encode_variance_in_target 16 bool",
    ],
}  # fmt: skip


@cache
def message(name: str) -> Any:
    """The class of Caffe's message ``name``."""
    return _schema().message(name)


@cache
def _schema() -> Schema:
    return Schema("caffe", _MESSAGES, _ENUMS)
