"""M1: are the quantizers right, and what do they cost? Every codec on the pair's real caches.

For each codec: relative error of K and V by sharer layer, what it does to the receiver's next
token, bytes of the real packet, and time to encode and decode. That a packet carries exactly what
the other milestones evaluate is checked on the way. Beside it, the times of all that is not the
codec's (see `latency`).
"""

from latentwire.parameters import CALIBRATION, CODEC, SAMPLE, STUDY

WORK = "codec_measurements"  # the module that does it
PARAMETERS = (*STUDY, CODEC, CALIBRATION, SAMPLE)
