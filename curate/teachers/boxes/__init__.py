"""Wrong boxes from the disagreement of detectors.

`coco` reads files, `arrange` puts boxes into an order, `fuse` makes clusters of the teachers' boxes, `match` pairs
them with given boxes, `evidence` turns both into numbers, `contrast` plants errors in copies of the labels, `model`
fits what they look like, `judge` gives the risks, `sentences` the reasons; `flag_coco` is the verb.
"""
