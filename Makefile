# Everything a developer or an operator types. `make run` and `make test` need nothing else to have been done before.

# The Python that .venv is made with (3.11 or 3.12); naming one here rebuilds a .venv that has another.
PYTHON ?= python3
# Passed on to what the target starts: make test ARGS="-k ledger", make run ARGS="--gpus 2x4GiB".
ARGS ?=
# Processes that share the tests (tests/conftest.py: which stay together).
JOBS ?= 2
# The traces of the policy benchmarks, and which seeds and goals of them (empty: all).
DATA ?= ../shared/data
SEEDS ?=
ONLY ?=
# Which load test: smoke, steady, ramp, spike, zero, many-models, replay, noisy-neighbour, soak, chaos.
SUITE ?= smoke
# Where the peers of the gateway benchmark and of `roundhouse loadtest compare` are installed.
PEERS ?=
# auto: the CUDA stack where an NVIDIA driver answers, else the CPU stack.
STACK ?= auto
# Asked for the CPU build of PyTorch when pip does not find it anywhere else.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

# Idle threads of many small engines must sleep, not spin.
export OMP_WAIT_POLICY ?= PASSIVE
# Each thread's own malloc arena would multiply the memory of every forked engine.
export MALLOC_ARENA_MAX ?= 2
# Nothing is downloaded behind the user's back; the catalog says what comes from where.
export HF_HUB_OFFLINE ?= 1

BIN := .venv/bin
EXACT_PYTHON := $(if $(filter file,$(origin PYTHON)),,--exact-python)

.DEFAULT_GOAL := help
.PHONY: help venv run test test-cluster test-long test-gpu lint loadtest chaos latency-cost bench-ceiling bench-control bench-spike bench-replay bench-coldstart bench-gpu bench-gateway bench-peers bench-tenants bench-metering bench-packing bench-residency bench-autoscale fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z -]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: ## create or refresh .venv (run and test do it by themselves)
	@$(PYTHON) helm-free-deploy/bootstrap --stack $(STACK) --torch-cpu-index $(TORCH_CPU_INDEX) $(EXACT_PYTHON)

run: venv ## start the service on this machine: several real models on simulated or real GPUs
	@$(BIN)/roundhouse up $(ARGS)

test: venv ## run every test that needs no GPU (JOBS=0: in one process)
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadscope --no-loadscope-reorder $(ARGS)

test-cluster: venv ## run the tests of several machines, as network namespaces, those that take minutes too (root)
	@$(BIN)/python -m pytest -q -m "" tests/cluster $(ARGS)

test-long: venv ## run the tests that take minutes, which `make test` leaves out (root)
	@$(BIN)/python -m pytest -q -m long tests $(ARGS)

test-gpu: venv ## run the tests that need a real GPU
	@$(BIN)/python -m pytest -q -o addopts="--import-mode=importlib --strict-markers --strict-config" tests/gpu $(ARGS)

lint: venv ## style, formatting, types and import contracts
	@$(BIN)/ruff check --output-format concise .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

loadtest: venv ## load the running service and report what users would feel; SUITE=spike, ARGS="--rate 5"
	@$(BIN)/python -m loadtests $(SUITE) $(ARGS)

latency-cost: venv ## measure the tables of docs/latency-cost.md against the running service (25 min); ONLY=gateway,tiers PEERS=dir
	@$(BIN)/python -m loadtests.latency_cost --only "$(ONLY)" --peers "$(PEERS)" $(ARGS)

bench-ceiling: venv ## how many streams and short requests a second one core of the load generator follows (2 min, a C compiler)
	@$(BIN)/python -m loadtests.ceiling $(ARGS)

chaos: venv ## kill, stop and silence each part at each kind of moment, and say what callers felt (18 min)
	@$(BIN)/python -m loadtests.chaos $(ARGS)

bench-coldstart: venv ## starts, wakes, speed, memory and replicas of real engines, stock vLLM beside them (20 min)
	@$(BIN)/python -m loadtests.coldstart $(ARGS)

bench-control: venv ## the loop: a decision, a step, and a wake from the gateway through Redis to the order, with up to 1,000 models
	@$(BIN)/python -m loadtests.control $(ARGS)

bench-spike: venv ## 1 -> 40 requests a second on real engines: ours, one replica, and Knative's defaults (8 min)
	@$(BIN)/python -m loadtests.spike $(ARGS)

bench-replay: venv ## a minute of a bursty trace on real engines beside the simulator's prediction of it (4 min); DATA=dir
	@$(BIN)/python -m loadtests.replay --data "$(DATA)" $(ARGS)

bench-gpu: venv ## copies, sleep and wake, residue and the ledger on a real GPU
	@$(BIN)/python -m loadtests.gpu $(ARGS)

bench-gateway: venv ## what the gateway costs beside nginx, HAProxy, Rust routers, Ray Serve, LiteLLM (20 min); PEERS=dir
	@$(BIN)/python -m loadtests.gateway $(if $(PEERS),--peers "$(PEERS)") $(ARGS)

bench-peers: venv ## install the peers of bench-gateway and loadtest compare that are Python packages, outside of the repository: PEERS=dir
	@$(if $(PEERS),,echo "name a folder for them: make bench-peers PEERS=dir" >&2; exit 2;) \
	$(BIN)/python -m loadtests.gateway.install "$(PEERS)" $(ARGS)

bench-tenants: venv ## what a quiet tenant feels of a noisy one at ten times its share (3 min)
	@$(BIN)/python -m loadtests.tenants $(ARGS)

bench-metering: venv ## what limits and metering cost a request, and how fast events are settled (2 min)
	@$(BIN)/python -m loadtests.metering $(ARGS)

bench-packing bench-residency bench-autoscale: bench-%: venv ## policies against their goals; DATA=dir SEEDS=42..51 ONLY=P1
	@$(BIN)/python -m loadtests.policies.$* --data "$(DATA)" --seeds "$(SEEDS)" --only "$(ONLY)" $(ARGS)

fuzz: venv ## let atheris look for bytes that break a parser, a minute each: ARGS="--seconds 600 --only chunks"
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install -q --no-deps "atheris>=3"
	@$(BIN)/python -m tests.fuzz $(ARGS)

clean: ## remove .venv, caches and build leftovers (the service's state in .roundhouse stays)
	@rm -rf .venv .venv.lock build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
