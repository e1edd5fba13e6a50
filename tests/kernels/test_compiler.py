"""Libraries compiled at first use."""

import multiprocessing
import os
from pathlib import Path

import pytest

from eqpot.kernels import compiler
from eqpot.kernels.compiler import CompilationError, cache_folder, compile_library

SOURCE = "int answer(void) { return ANSWER; }\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("EQPOT_CACHE", str(tmp_path / "cache"))
    for function in (cache_folder, compile_library):
        function.cache_clear()
    (tmp_path / "a.c").write_text(SOURCE)
    yield tmp_path / "a.c"
    for function in (cache_folder, compile_library):
        function.cache_clear()


def answer(source: Path, value: int = 42) -> int:
    compile_library.cache_clear()
    return int(compile_library((source,), (("ANSWER", str(value)),)).answer())


def test_every_source_and_every_definition_has_its_library(source):
    assert answer(source) == 42
    assert answer(source, 7) == 7
    source.write_text("int answer(void) { return -ANSWER; }\n")
    assert answer(source) == -42


def test_the_cache_serves_where_there_is_no_compiler(source, monkeypatch):
    assert answer(source) == 42
    monkeypatch.setenv("CC", "no-such-compiler")
    assert answer(source) == 42
    with pytest.raises(CompilationError, match="no-such-compiler cannot be run"):
        answer(source, 43)


def test_the_line_that_names_the_error_is_told(source):
    source.with_name("a.h").write_text('#include "missing.h"\n')
    source.write_text('#include "a.h"\n')
    with pytest.raises(CompilationError, match=r"failed: .*missing\.h"):
        answer(source)


def test_another_processor_means_another_library(source, monkeypatch):
    answer(source)
    monkeypatch.setattr(compiler, "_processor", lambda: "another")
    answer(source)
    assert len(list(cache_folder().glob("*.so"))) == 2


def test_a_truncated_library_is_made_again(source):
    # Never one that is loaded: touching what is no longer there would end this process.
    library = source.with_name("a.so")
    compiler.compile_file(source, ["-shared", "-fPIC", "-DANSWER=5"], library)
    assert compiler._is_whole(library)
    with library.open("r+b") as file:
        file.truncate(1000)
    assert not compiler._is_whole(library)
    compiler.compile_file(source, ["-shared", "-fPIC", "-DANSWER=6"], library)
    assert compiler._is_whole(library)


def test_options_in_cc(source, monkeypatch):
    monkeypatch.setenv("CC", "cc -O0")
    assert answer(source) == 42


def test_what_does_not_compile_is_an_error_with_the_compilers_words(source):
    source.write_text("int answer(void) { return missing; }\n")
    with pytest.raises(CompilationError, match="failed: .*error: .*missing"):
        answer(source)


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").exists(), reason="needs a folder that cannot be made")
def test_without_a_usable_folder_the_process_has_its_own(source, monkeypatch):
    monkeypatch.setenv("EQPOT_CACHE", "/proc/no/such/folder")
    cache_folder.cache_clear()
    assert cache_folder().name.startswith("eqpot-")
    assert answer(source) == 42
    monkeypatch.delenv("EQPOT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    cache_folder.cache_clear()
    assert cache_folder().name.startswith("eqpot-")


def test_a_folder_of_another_user_is_not_taken(source, monkeypatch):
    """Libraries from it are run."""
    monkeypatch.setattr(os, "getuid", lambda: source.stat().st_uid + 1)
    assert cache_folder().name.startswith("eqpot-")


def test_processes_compiling_at_once(source):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(answer, [source] * 3) == [42] * 3
