# Two commands do everything on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each process that tests start would compile the project again, and each of pytest's workers all tests.
unexport PYTHONDONTWRITEBYTECODE
# What a target is made of is made side by side: the demo's two processes.
MAKEFLAGS += --jobs=2

.PHONY: help setup demo demo-shared demo-others quick test environments fuzz faults lint format docs lock mlproject clean

help:
	@echo "make demo   set up, then run M0 to M4 on the bundled pairs (CPU, no download; LIMIT=8: few questions)"
	@echo "make quick  set up, then two precisions on one question set: one picture"
	@echo "make test   set up, then run all tests"
	@echo "make environments  set up, then try mlflow run in environments of its own (downloads)"
	@echo "make fuzz   set up, then throw a million mutated packets at the decoder"
	@echo "make faults set up, then end main at 280 random instants (half an hour)"
	@echo "make setup  make .venv with the locked packages"
	@echo "make lint   ruff and mypy"
	@echo "make docs   build the pages as a site in outputs/site, strictly"
	@echo "make lock   write constraints.txt from .venv"
	@echo "make mlproject  write MLproject from the milestones' parameters"

RARE = '/tests/|/(mypy|mypyc|pip|networkx|pymdownx)/|/transformers/models/(?!auto|qwen|llama|gemma)'

# Made again when the lock or the project's own dependencies change.
$(VENV)/.ready: constraints.txt pyproject.toml
	@echo "setting up $(VENV), once: a minute or more, most of it silent"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@# On all cores, which pip does not, and without the packages' own tests and what is imported
	@# never or by few, a third of it all; some packages bring files of an older Python along.
	@$(BIN)/python -m compileall -q -j 0 -x $(RARE) $(VENV)/lib >/dev/null 2>&1 || true
	@touch $@

# Where the packages lie: Python would take the checkout's folder for one, from the folder above it.
$(VENV)/.paths: $(VENV)/.ready
	@printf '%s\n' '$(CURDIR)' '$(CURDIR)/C2C' > \
	  "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/latentwire_paths.pth"
	@touch $@

setup: $(VENV)/.ready $(VENV)/.paths

# Without MLflow's launcher, which takes as long to start as a milestone.
RUN = $(BIN)/latentwire run

# Both models read the question; beside it, on a core that it leaves idle, the sharer alone reads a
# statement, and the fuser is one of the same size that nobody trained, as a pair of its own.
demo: demo-shared demo-others

# All questions, or so many of each set: make demo LIMIT=8.
SHORT = $(if $(LIMIT),-P limit=$(LIMIT))
# A codec of each kind, on few questions: M1 shows what it measures, and curves take the time. The
# sharer writes a word or two, so texts of other lengths say the same; a set is one chunk, so that a
# worker has most donors of its questions at hand.
M1_CODECS = bf16,int8,int4,int3,int2,kivi4,kivi2,nf4,rotate2,turbo2,kvtc1,klt2,planes2

demo-shared: setup
	$(RUN) main -P pair=demo -P device=cpu -P workers=2 -P chunk_size=600 \
	  -P m1_codec=$(M1_CODECS) \
	  -P m2_kv_bits=8,4,3,2 -P m3_keep_ratio=1,0.5,0.25,0.1 -P message_tokens=8 \
	  -P m0_controls=mean,noise -P m8_order=vnorm_by_layer,snapkv_by_layer \
	  -P sample=4 -P output_dir=outputs/demo $(SHORT)

# M0 of both in one process, which imports once.
demo-others: setup
	$(BIN)/python scripts/demo_others.py $(LIMIT)

# The whole cache in 16, 8 and 4 bits, own and another question's.
quick: setup
	$(RUN) m2 -P pair=demo -P device=cpu -P workers=2 -P dataset=demo_graded -P kv_bits=16,8,4
	$(RUN) m4 -P pair=demo -P dataset=demo_graded -P output_dir=outputs/quick

# More at a time than two cores: many tests wait for processes that they started. On a machine with
# more cores: make test WORKERS=8.
test: setup
	$(BIN)/python -m pytest -n $(or $(WORKERS),3) --dist loadfile --no-loadscope-reorder

# The last test makes an environment with every manager that is installed: minutes, and downloads.
environments: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m environments -rs

fuzz: setup
	PYTHONPATH=.:C2C $(BIN)/python tests/fuzz_packets.py --count $(or $(COUNT),1000000)

faults: setup
	PYTHONPATH=.:C2C:tests $(BIN)/python tests/faults/run.py --report results/faults.json

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: setup
	{ echo "# The lock: every package of a tested environment (make lock writes it)."; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' | grep '=='; } > constraints.txt

mlproject: setup
	PYTHONPATH=.:C2C $(BIN)/python -m latentwire.milestones.project_file

clean:
	rm -rf $(VENV) outputs build dist *.egg-info
