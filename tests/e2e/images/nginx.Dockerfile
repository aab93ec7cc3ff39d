ARG BASE
FROM ${BASE}
RUN apt-get install -y -qq --no-install-recommends nginx-light curl
EXPOSE 80
CMD ["nginx", "-g", "daemon off;"]
