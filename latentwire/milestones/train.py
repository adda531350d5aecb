"""Train: can a fuser be trained whose message matters? Writes it, and a pair's file for m0 to m4.

Both models stay as they are; the fuser learns the answers of training questions, never of scored
ones. Validation questions, with their own and with another question's message, say which of its
states is the best. Killed anywhere and started again, it ends with the same weights.
"""

from dataclasses import replace

from c2c.paired_prompts import ALIGNMENTS
from latentwire.parameters import (
    AUTO,
    CODEC,
    DATASET,
    INIT,
    OUTPUT_DIR,
    PAIR_TO_TRAIN,
    SEED,
    STUDY,
    TRAINING_DATA,
    Parameter,
    int_at_least,
    number,
    one_of,
)

_SHARED = ("data_dir", "device", "dtype", "dry_run", "preflight")
WORK = "training_run"  # the module that does it
PARAMETERS = (
    PAIR_TO_TRAIN,
    *(parameter for parameter in STUDY if parameter.name in _SHARED),
    replace(DATASET, help="question sets to be scored, kept out of training; auto: the pair's own"),
    TRAINING_DATA,
    Parameter(
        "alignment",
        AUTO,
        one_of(AUTO, *ALIGNMENTS),
        "how prompts of two tokenizers are aligned; auto: as the pair's file says",
    ),
    INIT,
    Parameter("hidden_dim", "1024", int_at_least(1), "width of a new fuser's projectors"),
    Parameter("intermediate_dim", "0", int_at_least(0), "inner width of its blocks; 0: hidden_dim"),
    Parameter("num_layers", "3", int_at_least(3), "layers of its projectors"),
    Parameter("steps", "400", int_at_least(1), "optimizer steps"),
    Parameter("batch_size", "64", int_at_least(1), "conversations at once"),
    Parameter("accumulation", "1", int_at_least(1), "batches an optimizer step"),
    Parameter("learning_rate", "5e-4", number(0, above=True), "of AdamW, after warm-up"),
    Parameter("gate_init", "1.0", number(-20, 20), "logit that a new fuser's gates start at"),
    Parameter("gate_penalty", "0.0", number(0), "times the mean openness of the gates"),
    Parameter(
        "guard_weight",
        "0.0",
        number(0),
        "times the harm that another question's message does beyond guard_tolerance",
    ),
    Parameter(
        "guard_tolerance", "0.1", number(0), "harm that costs nothing, in nats an answer token"
    ),
    Parameter("partial_share", "0.2", number(0, 1), "share of batches sent only in a random part"),
    replace(
        CODEC,
        help="codecs that messages pass in training, one drawn a batch; none: 16 bits; those with a"
        " calibration first read 128 training questions of each task to make it",
    ),
    Parameter(
        "codec_after", "0.0", number(0, 1), "share of the steps that are done in 16 bits before"
    ),
    replace(SEED, help="of everything that is random"),
    Parameter(
        "eval_every", "100", int_at_least(0), "steps between validations; 0: only after the last"
    ),
    Parameter("eval_examples", "128", int_at_least(2), "validation questions of each set"),
    Parameter("checkpoint_every", "100", int_at_least(1), "steps between checkpoints"),
    Parameter("trained_pair", "", str, "name of the pair that is written; none: the pair's own"),
    replace(OUTPUT_DIR, default="outputs/train", help="folder of this training"),
)
