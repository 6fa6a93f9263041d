//! Attributes of netlink's messages.

/// What the first attribute of a kind holds: `attribute!(link.attributes, LinkAttribute::Mtu(mtu) => *mtu)`.
macro_rules! attribute {
    ($attributes:expr, $kind:pat => $value:expr) => {
        $attributes.iter().find_map(|attribute| match attribute {
            $kind => Some($value),
            _ => None,
        })
    };
}

pub(crate) use attribute;
