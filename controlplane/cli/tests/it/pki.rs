//! `voicelane pki`.

use crate::command::run_at;

#[tokio::test]
async fn certificates_are_issued_shown_renewed_and_revoked() {
    let dir = std::env::temp_dir().join(format!("voicelane-cli-pki-{}", std::process::id()));
    let (pki, out) = (dir.join("pki"), dir.join("r1"));
    let (pki, out) = (pki.display(), out.display());
    let at = |line: &str| format!("pki --authority {pki} {line}");
    let run = async |line: String| run_at("http://127.0.0.1:9", &line).await;

    run(at("show"))
        .await
        .fails(1, &["PKI", "voicelane pki init"]);
    run(at("init --domain example.net"))
        .await
        .shows(&["made an authority of example.net"]);
    run(at("init"))
        .await
        .fails(1, &["has an authority already"]);
    let issue = format!("issue router r1 --out {out}");
    run(at(&issue))
        .await
        .shows(&["spiffe://example.net/voicelane/router/r1"]);
    run(at(&issue))
        .await
        .fails(1, &["has a certificate already"]);
    run(at("issue router a/b")).await.fails(1, &["\"a/b\""]);
    run(at("issue router r2 --days 0"))
        .await
        .fails(1, &["1 to 3650"]);

    let shown = run(at("show --json")).await.json();
    let [certificate] = &shown["certificates"].as_array().unwrap()[..] else {
        panic!("{shown}")
    };
    assert_eq!(certificate["state"], "valid");
    assert_eq!(certificate["role"], "router");
    run(at(&format!("renew {out}")))
        .await
        .shows(&["r1", "valid"]);
    let first = run(at("show --json")).await.json();
    assert_eq!(first, shown, "not due");
    let renewed = run(at(&format!("renew --always {out} --json")))
        .await
        .json();
    let serial = renewed["certificates"][0]["serial"]
        .as_str()
        .unwrap()
        .to_owned();
    run(format!("pki show {out}")).await.shows(&[&serial]);
    run(at(&format!("revoke --serial {serial}")))
        .await
        .shows(&["revoked"]);
    run(at("revoke router r1")).await.shows(&["revoked"]);
    run(at("revoke router r1"))
        .await
        .fails(1, &["no certificate"]);
    run(at("revoke")).await.fails(2, &["<ROLE>"]);
    run(at("show")).await.shows(&["revoked"]);
    run("pki --help".into())
        .await
        .shows(&["renew", "crl.pem", "ca-key.pem"]);
    std::fs::remove_dir_all(&dir).unwrap();
}
