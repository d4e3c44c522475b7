# What makes a fault in memory harder to use, in every object and program; tests/e2e/test_hardening.py holds both programs
# to it. What each costs the sidecar's request path, in instructions (callgrind on bench_proxy_nulltransport, GCC 12, -O2;
# 7,180 a request without any):
#   -fstack-protector-strong  +0.9 %
#   -D_FORTIFY_SOURCE=3        0
#   -D_GLIBCXX_ASSERTIONS     +1.5 %
#   -fstack-clash-protection   0
# Left off, as is whatever costs more than 2 %:
#   -fcf-protection           +1.1 %, for nothing: the start files of Debian 12's C library are not marked for it, so no
#                             program that is linked with them is, and the kernel does not turn it on.
target_compile_options(tg_flags INTERFACE -fstack-protector-strong -fstack-clash-protection -fcf-protection=none -fPIE)
target_compile_definitions(tg_flags INTERFACE _GLIBCXX_ASSERTIONS)
target_link_options(tg_flags INTERFACE -pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)

# Assertions of other people's headers are for who builds Debug; ours (TG_ASSERT) do not ask for NDEBUG and stay.
target_compile_definitions(tg_flags INTERFACE $<$<NOT:$<CONFIG:Debug>>:NDEBUG>)

# It needs optimisation, and is what AddressSanitizer does better.
if(NOT TALLYGATE_SANITIZE)
  set(level 2)
  if(CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 12)
    set(level 3)
  endif()
  target_compile_options(tg_flags INTERFACE
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=${level}>)
endif()
