//! Which addresses may be connected to. Pure.
//!
//! Everything that is not plainly an address of the public internet is refused, unless the operator allows it: inner
//! networks, this machine, and whatever carries one of these inside another form.

use std::net::IpAddr;

use ipnet::IpNet;

/// Of IPv4, what is not public, by IANA's registry of special addresses, and what clouds keep for themselves.
const KEPT: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    // Metadata of most clouds is at 169.254.169.254.
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Azure's own, and public by its looks.
    "168.63.129.16/32",
];

/// All that is public of IPv6. What is mapped, translated or local is outside of it.
const PUBLIC_6: &str = "2000::/3";

/// Of that, what is not: protocols and tunnels that have another address inside, and documentation.
const KEPT_6: &[&str] = &["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

/// What the operator allows beside the public internet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    allowed: Vec<IpNet>,
}

impl Rules {
    /// Reads networks (`10.1.2.0/24`) and single addresses.
    pub(crate) fn read(texts: &[String]) -> Result<Self, String> {
        let network = |text: &String| {
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            let network = network.map_err(|_| format!("{text:?} is not a network, such as 10.1.2.0/24"))?;
            match network.prefix_len() {
                0 => Err(format!("{text:?} is every address there is; name the networks that are yours")),
                _ => Ok(network.trunc()),
            }
        };
        Ok(Self { allowed: texts.iter().map(network).collect::<Result<_, _>>()? })
    }

    /// Whether an address may be connected to.
    pub(crate) fn allow(&self, address: IpAddr) -> bool {
        is_public(address) || self.allowed.iter().any(|network| network.contains(&address))
    }
}

fn is_public(address: IpAddr) -> bool {
    let within = |networks: &[&str]| {
        let mut networks = networks.iter().map(|network| network.parse::<IpNet>().expect("the tables hold networks"));
        networks.any(|network| network.contains(&address))
    };
    match address {
        IpAddr::V4(_) => !within(KEPT),
        IpAddr::V6(_) => within(&[PUBLIC_6]) && !within(KEPT_6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_public_addresses_are_connected_to_unless_the_operator_allows_others() {
        let nothing = Rules::default();
        for public in ["1.1.1.1", "93.184.216.34", "172.15.0.1", "172.32.0.1", "100.63.0.1", "2606:4700::1111"] {
            assert!(nothing.allow(ip(public)), "{public}");
        }
        for kept in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "192.88.99.1",
            // Loopback, none, and both in other forms.
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:93.184.216.34",
            "::127.0.0.1",
            // Translated, tunnelled, local, multicast, documentation, metadata.
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2001:0:4136:e378::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "5f00::1",
        ] {
            assert!(!nothing.allow(ip(kept)), "{kept}");
            let own = Rules::read(&[kept.to_owned()]).expect("an address is a network of one");
            assert!(own.allow(ip(kept)), "{kept} is allowed by name");
        }
    }

    #[test]
    fn what_is_allowed_is_that_network_and_no_other_form_of_it() {
        let rules = Rules::read(&["10.1.2.0/24".into(), "fd00:1::/64".into()]).expect("networks");
        for (address, allowed) in [
            ("10.1.2.3", true),
            ("10.1.3.3", false),
            ("::ffff:10.1.2.3", false),
            ("64:ff9b::a01:203", false),
            ("fd00:1::7", true),
            ("fd00:2::7", false),
        ] {
            assert_eq!(rules.allow(ip(address)), allowed, "{address}");
        }
        for wrong in ["10.1.2", "10.1.2.0/33", "0.0.0.0/0", "::/0", "inner.example", "", "0x7f.1"] {
            assert!(Rules::read(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
