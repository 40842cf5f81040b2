"""The number of threads is a thread's own, and what is computed has as many."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from models.runtimes.cores import openmp


def in_a_thread(action):
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(action).result()


def test_torch_brings_a_library_along():
    assert openmp.libraries()
    assert openmp.libraries() is openmp.libraries()


def test_only_the_thread_itself_changes():
    before = torch.get_num_threads()

    def three():
        openmp.set_threads(3)
        return openmp.threads(), torch.get_num_threads()

    assert in_a_thread(three) == (3, 3)
    assert torch.get_num_threads() == before


def test_it_is_heeded_by_what_vllm_has_made_deaf(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)

    def two():
        openmp.set_threads(2)
        return torch.get_num_threads()

    assert in_a_thread(two) == 2


def test_alone_is_alone():
    """Whatever a product of matrices costs is then this thread's own time."""

    def share_of_own_time():
        matrix = torch.ones(512, 512)
        openmp.set_threads(1)
        own_s, all_s = time.thread_time(), time.process_time()
        for _ in range(20):
            matrix @ matrix
        return time.thread_time() - own_s, time.process_time() - all_s

    own_s, all_s = in_a_thread(share_of_own_time)
    assert own_s > all_s / 2


def test_only_the_thread_itself_steps_aside():
    def aside():
        openmp.step_aside()
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), torch.get_num_threads()

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), torch.get_num_threads()
    assert in_a_thread(aside) == (openmp.NICENESS, 1)
    assert (os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), torch.get_num_threads()) == before
