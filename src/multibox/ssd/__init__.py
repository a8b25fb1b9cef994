"""The paper's method in torch, one idea a file (Liu et al. 2016, arXiv 1512.02325v5).

In the paper's order:

2.1 Model
    "Multi-scale feature maps for detection": ``extra_layers``, put together by ``model``
    "Convolutional predictors for detection": ``heads``
    "Default boxes and aspect ratios": ``multibox.default_boxes``
2.2 Training
    "Matching strategy": ``matching``
    "Training objective", equations 1 to 3: ``multibox_loss``, with g-hat from ``box_coder``
    "Choosing scales and aspect ratios for default boxes", equation 4: ``multibox.default_boxes``
    "Hard negative mining": ``hard_negative_mining``
    "Data augmentation", and section 3.6: ``multibox.data.augmentation``
3 "Base network" and 3.1 (L2 norm of conv4_3): ``multibox.backbones.vgg``
3.1 Optimiser, schedule: ``multibox.training.recipes``
3.7 Thresholds, non-maximum suppression: ``postprocess``

The paper's symbols are ours: x_ij^p, default box i is matched to object j of class p; c, class
scores (here logits); l, predicted offsets; g, objects; g-hat, their offsets from d, default boxes;
N, the number of matched default boxes; alpha, the weight of L_loc; s_k and a_r, scales and aspect
ratios. Shapes add b pictures, n default boxes of a picture and m objects in it.
"""
