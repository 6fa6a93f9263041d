//! What `[router]` says.

use super::assert_mistakes;

#[test]
fn mistakes_in_router_are_named_with_their_remedy() {
    assert_mistakes(&[
        ("id = \"a\"", "id = \"a b\"", "router.id", "1 to 64"),
        (
            "https://172.30.0.1:7400",
            "172.30.0.1:7400",
            "router.server",
            "https://HOST:PORT",
        ),
        (
            "https://172.30.0.1:7400",
            "ftp://h:1",
            "router.server",
            "no http or https",
        ),
        (
            "https://172.30.0.1:7400",
            "http://h:1",
            "router.server",
            "https://",
        ),
        (
            "https://172.30.0.1:7400",
            "https://h",
            "router.server",
            "port",
        ),
        (
            "key = \"/etc/voicelane/router/key.pem\"",
            "",
            "router",
            "key is missing",
        ),
        (
            "\"/etc/voicelane/router/ca.pem\"",
            "\"ca.pem\"",
            "router.ca",
            "/",
        ),
        (
            "172.30.0.11:7401",
            "nowhere",
            "router.api",
            "172.30.0.11:7401",
        ),
        (
            "cores = [0]",
            "cores = [0, 0]",
            "router.cores",
            "core 0 is named twice",
        ),
        (
            "cores = [0]",
            "cores = [0]\nscheduler_cores = [0]",
            "router.scheduler_cores",
            "core 0 is named twice",
        ),
        (
            "cores = [0]",
            "cores = [0]\nscheduler_cores = [7]",
            "router.scheduler_cores",
            "core 7",
        ),
        ("cores = [0]", "cores = []", "router.cores", "0, 1"),
        ("cores = [0]", "cores = [7]", "router.cores", "core 7"),
        ("cores = [0]", "cores = [-1]", "router.cores", "core -1"),
        ("\"adaptive\"", "\"sleepy\"", "router.idle", "\"poll\""),
        (
            "memory_mb = 320",
            "memory_mb = 2",
            "router.memory_mb",
            "between",
        ),
        (
            "memory_mb = 320",
            "memory_mb = 64",
            "router.memory_mb",
            "at least",
        ),
        ("\"auto\"", "\"always\"", "router.hugepages", "\"require\""),
        (
            "session_entries = 65536",
            "session_entries = 0",
            "router.session_entries",
            "between 1",
        ),
        (
            "quality = \"all\"",
            "quality = \"1/0\"",
            "router.quality",
            "\"1/16\"",
        ),
        (
            "quality = \"all\"",
            "quality = \"some\"",
            "router.quality",
            "\"1/16\"",
        ),
        (
            "ipv4_routes = 65536",
            "ipv4_routes = 3000000",
            "router.ipv4_routes",
            "between 64 and 2000000",
        ),
        (
            "ipv6_routes = 65536",
            "ipv6_routes = 500000",
            "router.memory_mb",
            "ipv6_routes",
        ),
    ]);
}
