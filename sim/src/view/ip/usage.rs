//! Usage texts: what podwire's `ip` understands, in iproute2's notation.

pub(super) const IP: &str = "\
Usage: podwire ip -n NODE [ OPTIONS ] OBJECT { COMMAND | help }
where  OBJECT := { address | link | neighbor | route | rule }
       OPTIONS := { -V[ersion] | -j[son] | -p[retty] | -br[ief] | -o[neline] |
                    -f[amily] { inet | inet6 | link } | -4 | -6 | -0 | -n[etns] NODE }";

pub(super) const ADDRESS: &str = "\
Usage: ip address {add|change|replace} PREFIX [ broadcast ADDR ] [ scope SCOPE ] dev IFNAME
       ip address del PREFIX dev IFNAME
       ip address flush dev IFNAME
       ip address [ show [ dev IFNAME ] [ scope SCOPE ] [ master DEVICE ] [ type TYPE ]
                         [ to PREFIX ] [ dynamic | permanent ] [ primary | secondary ] [ up ] ]
SCOPE := [ host | link | global ]
TYPE := { bridge | sit | veth }";

pub(super) const LINK: &str = "\
Usage: ip link set [ dev ] DEVICE [ up | down ] [ mtu MTU ]
       ip link add NAME type TYPE
       ip link delete [ dev ] DEVICE
       ip link show [ DEVICE ] [ up ] [ master DEVICE ] [ type TYPE ]";

pub(super) const ROUTE: &str = "\
Usage: ip route [ list SELECTOR ]
       ip route get ADDRESS [ from ADDRESS ] [ iif STRING ] [ oif STRING ]
       ip route { add | del | change | append | replace | flush } ROUTE
SELECTOR := [ root PREFIX ] [ match PREFIX ] [ exact PREFIX ] [ table TABLE_ID ] [ dev STRING ]
            [ via ADDRESS ] [ src ADDRESS ] [ proto RTPROTO ] [ type TYPE ] [ scope SCOPE ] [ metric NUMBER ]
ROUTE := [ TYPE ] PREFIX [ via ADDRESS ] [ dev STRING ] [ onlink ] [ src ADDRESS ]
         [ proto RTPROTO ] [ scope SCOPE ] [ metric NUMBER ]
TYPE := { unicast | blackhole | unreachable | prohibit | throw }
TABLE_ID := [ main | local | all ]
RTPROTO := [ kernel | boot | static | bird | dhcp ]
SCOPE := [ host | link | global ]";

pub(super) const RULE: &str = "\
Usage: ip rule [ list ]";

pub(super) const NEIGH: &str = "\
Usage: ip neigh { add | replace } ADDR lladdr LLADDR [ nud permanent ] dev DEV
       ip neigh del ADDR dev DEV
       ip neigh flush { dev DEV | to PREFIX | all }
       ip neigh [ show [ to PREFIX ] [ dev DEV ] [ nud STATE ] ]
STATE := { delay | failed | incomplete | permanent | probe | reachable | stale }";
