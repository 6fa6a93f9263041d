//! `voicelane link`.

use voicelane_proto::v1::{self, link::Direction, operator_client::OperatorClient};

use crate::{
    args::{Global, Link, Way},
    client::{Connection, Failure},
    output::Output,
    text::links,
};

/// Carries a command out.
pub(crate) async fn run(global: &Global, link: Link) -> Result<(), Failure> {
    let output = Output { json: global.json };
    let connection = Connection::to_server(global).await?;
    let mut client = OperatorClient::new(connection.channel.clone());
    match link {
        Link::List { router } => {
            let mut all = v1::ListLinksResponse::default();
            loop {
                let request = v1::ListLinksRequest {
                    router_id: router.clone(),
                    page_token: all.next_page_token,
                    ..Default::default()
                };
                let page = connection.answer(client.list_links(request)).await?;
                all.links.extend(page.links);
                all.next_page_token = page.next_page_token;
                if all.next_page_token.is_empty() {
                    break;
                }
            }
            output.print(&all, links::links)
        }
        Link::Show {
            router,
            port,
            direction,
            calls,
        } => {
            let direction = match direction {
                Way::In => Direction::In,
                Way::Out => Direction::Out,
            };
            let request = v1::GetLinkRequest {
                router_id: router,
                port,
                direction: direction.into(),
                calls,
            };
            let answer = connection.answer(client.get_link(request)).await?;
            output.print(&answer, links::link)
        }
    }
}
