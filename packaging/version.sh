# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
#
# To be sourced in the root of the repository: the version of the library and the number of its binary interface,
# which are in Cargo.toml only. build.rs derives the soname by the same rule.

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
abi=${version%%.*}
if [ "$abi" = 0 ]; then
    abi=${version%.*}
fi
soname=libproxywasm.so.$abi
