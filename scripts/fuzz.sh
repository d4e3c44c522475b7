#!/usr/bin/env bash
# fuzz.sh SECONDS [SUBJECT…]: runs each fuzz target (all, or those named: proxy, requests …) for so long, one after the other, and says what
# came of it. What was learnt stays in build/fuzz/corpus/, an input that breaks something in build/fuzz/found/. Exit code 1 if one did.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
shift
if ! [[ $seconds =~ ^[1-9][0-9]{0,5}$ ]]; then
  echo "fuzz: SECONDS is a whole number from 1 to 999999" >&2
  exit 64
fi
subjects=("$@")
if [ ${#subjects[@]} -eq 0 ]; then
  for target in build/fuzz/bin/fuzz_*; do subjects+=("${target##*/fuzz_}"); done
fi
mkdir -p build/fuzz/found
symbolizer=$(command -v llvm-symbolizer-19 || true)
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 ASAN_SYMBOLIZER_PATH=$symbolizer
failed=0
summary=()
for subject in "${subjects[@]}"; do
  target=build/fuzz/bin/fuzz_$subject
  if [ ! -x "$target" ]; then
    echo "fuzz: there is no target fuzz_$subject" >&2
    exit 64
  fi
  mkdir -p "build/fuzz/corpus/$subject"
  log=build/fuzz/$subject.log
  echo "fuzz: $subject for $seconds s"
  result=ok
  "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/found/$subject-" "build/fuzz/corpus/$subject" "tests/fuzz/corpus_$subject" >"$log" 2>&1 || result=FAILED
  if [ "$result" = FAILED ]; then
    failed=1
    tail -n 40 "$log"
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  summary+=("$(printf '%-10s %10s runs  %6s edges  %s' "$subject" "${runs:-?}" "${edges:-?}" "$result")")
done
printf '%s\n' "${summary[@]}"
if [ $failed -ne 0 ]; then
  echo "fuzz: an input that breaks it is in build/fuzz/found/: run the target with it alone; once mended it belongs to tests/fuzz/corpus_<subject>/"
fi
exit $failed
