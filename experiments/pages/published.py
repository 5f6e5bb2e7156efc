"""What papers printed.

First the IST paper (Yuan et al., PVLDB 15(8), 2022, section 3, tables 1 to 4).
"""

METHODS = {"data_parallel": "data parallel", "local_sgd": "local SGD", "ist": "IST"}
NODES = (2, 4, 8)

# Seconds on 2, 4 and 8 machines to each level of accuracy.
TABLE1 = {
    "speech, 2 layers": {
        0.63: {"data_parallel": (118, 269, 450), "local_sgd": (68, 130, 235), "ist": (35, 28, 24)},
        0.75: {
            "data_parallel": (759, 1708, 2417),
            "local_sgd": (444, 742, 1110),
            "ist": (231, 167, 192),
        },
    },
    "speech, 3 layers": {
        0.63: {
            "data_parallel": (376, 1228, 1922),
            "local_sgd": (182, 586, 1115),
            "ist": (76, 141, 300),
        },
        0.75: {
            "data_parallel": (4534, 9340, 14886),
            "local_sgd": (2032, 4107, 6539),
            "ist": (812, 664, 1161),
        },
    },
}
# On other data its levels may lie out of reach. On synthetic speech those stand for them that are
# the same share, 79 and 94 %, of what data parallel training of the 2-layer net comes to there.
SYNTHETIC = {0.63: 0.48, 0.75: 0.57}
# Final accuracy on 2 machines: data parallel, local SGD, IST.
TABLE2 = {
    "speech, 2 layers": (0.7938, 0.7998, 0.8153),
    "speech, 3 layers": (0.7950, 0.7992, 0.8327),
    "ResNet18": (0.9128, 0.9087, 0.9102),
    "VGG12": (0.3688, 0.3685, 0.3802),
}
# IST and ensemble on 2, 4 and 8 machines.
TABLE3 = {
    "speech, 2 layers": {"ist": (0.82, 0.79, 0.76), "ensemble": (0.82, 0.80, 0.77)},
    "speech, 3 layers": {"ist": (0.84, 0.82, 0.78), "ensemble": (0.74, 0.71, 0.70)},
}
# Precision at 1, 3 and 5 by hidden width; data parallel training fits the first alone.
TABLE4 = {
    ("data_parallel", 512): (0.386, 0.345, 0.316),
    ("ist", 512): (0.396, 0.360, 0.331),
    ("ist", 1024): (0.409, 0.369, 0.339),
    ("ist", 1536): (0.432, 0.391, 0.361),
    ("ist", 2048): (0.437, 0.394, 0.364),
    ("ist", 2560): (0.438, 0.394, 0.366),
}

# ResIST (Dun et al., UAI 2022), by the number of workers: the least number of blocks that explains
# its bytes, GB a round of ResIST and of local SGD. Its ablation on CIFAR10, 2 workers, in percent.
RESIST_TRAFFIC = {2: (0, 0.4546, 0.662), 4: (6, 0.7202, 1.325), 8: (4, 1.2893, 2.649)}
RESIST_ABLATION = {
    "naive": 66.3,
    "strided": 68.3,
    "stage": 84.3,
    "scaled": 91.5,
    "preactivated": 92.0,
}
# LoFT (Dun et al.): GB in all of LoFT and of local SGD, CIFAR100, PreResNet-18, 4 workers.
LOFT_TRAFFIC = (64.57, 111.0)
# GraphSAGE on Amazon2M (GIST: Wolfe et al., table 3): by layers and subnets (0: the whole net), F1
# in percent and hours by width. What is not there did not fit the memory.
GIST_AMAZON2M = {
    (2, 0): {400: (89.38, 1.81), 4096: (90.58, 5.17)},
    (2, 2): {
        400: (87.48, 1.25),
        4096: (90.09, 1.70),
        8192: (90.87, 2.76),
        16384: (90.94, 9.31),
        32768: (90.91, 32.31),
    },
    (2, 4): {
        400: (84.82, 1.11),
        4096: (88.79, 1.13),
        8192: (89.76, 1.49),
        16384: (90.10, 2.24),
        32768: (90.17, 5.16),
    },
    (2, 8): {
        400: (82.56, 1.13),
        4096: (87.16, 1.11),
        8192: (88.31, 1.20),
        16384: (88.89, 1.39),
        32768: (89.46, 1.76),
    },
    (3, 0): {400: (89.73, 2.32), 4096: (90.99, 9.52)},
    (3, 2): {400: (87.79, 1.56), 4096: (90.40, 2.12), 8192: (90.91, 4.87), 16384: (91.05, 17.7)},
    (3, 4): {400: (85.30, 1.37), 4096: (88.51, 1.42), 8192: (89.75, 2.07), 16384: (90.15, 3.44)},
    (3, 8): {
        400: (82.84, 1.37),
        4096: (86.12, 1.34),
        8192: (88.38, 1.37),
        16384: (88.67, 1.88),
        32768: (88.66, 2.56),
    },
    (4, 0): {400: (89.77, 3.00), 4096: (91.02, 14.20)},
    (4, 2): {400: (87.75, 1.79), 4096: (90.36, 2.77), 8192: (91.08, 6.92), 16384: (91.09, 26.44)},
    (4, 4): {400: (85.32, 1.58), 4096: (88.50, 1.65), 8192: (89.76, 2.36), 16384: (90.05, 4.93)},
    (4, 8): {400: (83.45, 1.56), 4096: (86.60, 1.55), 8192: (88.13, 1.61), 16384: (88.44, 2.30)},
}
