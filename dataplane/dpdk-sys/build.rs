//! Compiles the C shim and generates bindings over the installed libdpdk (22.11 or later).

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=shim.h");
    println!("cargo:rerun-if-changed=shim.c");

    // DPDK's port drivers are plug-ins that EAL loads by itself: only the libraries are linked.
    let dpdk = pkg_config::Config::new()
        .atleast_version("22.11")
        .cargo_metadata(false)
        .probe("libdpdk")
        .map_err(|error| {
            format!("libdpdk 22.11 or later is needed (Debian: libdpdk-dev): {error}")
        })?;
    for path in &dpdk.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for library in [
        "rte_bus_vdev",
        "rte_eal",
        "rte_ethdev",
        "rte_mbuf",
        "rte_mempool",
    ] {
        println!("cargo:rustc-link-lib={library}");
    }

    let mut shim = cc::Build::new();
    shim.file("shim.c")
        .includes(&dpdk.include_paths)
        .flag("-std=gnu11")
        .opt_level(3);
    // DPDK's headers need the instructions that its libraries are compiled for.
    let machine = (env::var("CARGO_CFG_TARGET_ARCH")? == "x86_64").then_some("-march=corei7");
    if let Some(flag) = machine {
        shim.flag(flag);
    }
    shim.compile("voicelane_dpdk_shim");

    let mut bindings = bindgen::Builder::default()
        .header("shim.h")
        .allowlist_function("vl_.*")
        .allowlist_function("rte_(eal_(init|cleanup)|version|strerror)")
        .allowlist_function("rte_thread_(register|unregister)")
        .allowlist_function("rte_pktmbuf_(pool_create|free_bulk)")
        .allowlist_function("rte_mempool_avail_count")
        .allowlist_function("rte_eth_dev_(get_port_by_name|start|stop|close)")
        .allowlist_function("rte_eth_dev_is_valid_port")
        .allowlist_function("rte_eth_promiscuous_enable")
        .allowlist_function("rte_vdev_(init|uninit)")
        .allowlist_function("rte_(zmalloc|free)")
        .allowlist_type("vl_.*")
        .allowlist_var("VL_.*")
        .opaque_type("rte_.*")
        .prepend_enum_name(false)
        .layout_tests(false)
        .generate_comments(false)
        .use_core();
    for path in &dpdk.include_paths {
        bindings = bindings.clang_arg(format!("-I{}", path.display()));
    }
    bindings
        .clang_args(machine)
        .generate()?
        .write_to_file(PathBuf::from(env::var("OUT_DIR")?).join("bindings.rs"))?;
    Ok(())
}
