// SPDX-License-Identifier: Apache-2.0
//! Versions of the ABI and what differs between them.

/// Version of the ABI that a module speaks, told by the marker function that it exports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum AbiVersion {
    /// 0.1.0
    V0_1_0,
    /// 0.2.0
    V0_2_0,
    /// 0.2.1
    V0_2_1,
}

impl AbiVersion {
    /// Prefix of every marker.
    pub const MARKER_PREFIX: &'static str = "proxy_abi_version_";

    /// The version whose marker has this name.
    pub fn from_marker(name: &str) -> Option<Self> {
        match name {
            "proxy_abi_version_0_1_0" => Some(Self::V0_1_0),
            "proxy_abi_version_0_2_0" => Some(Self::V0_2_0),
            "proxy_abi_version_0_2_1" => Some(Self::V0_2_1),
            _ => None,
        }
    }

    /// 10000 * major + 100 * minor + patch.
    pub const fn number(self) -> u32 {
        match self {
            Self::V0_1_0 => 100,
            Self::V0_2_0 => 200,
            Self::V0_2_1 => 201,
        }
    }

    /// Whether the header callbacks are told the end of the stream, as a third parameter.
    pub const fn headers_end_of_stream(self) -> bool {
        !matches!(self, Self::V0_1_0)
    }

    /// Whether reading a header that is not there gives NotFound; before, it gave Ok and no value.
    pub const fn missing_header_is_not_found(self) -> bool {
        !matches!(self, Self::V0_1_0)
    }
}
